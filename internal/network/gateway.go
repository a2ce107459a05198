package network

import (
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// GetInternetGateway finds an internet gateway by its id.
func GetInternetGateway(tx store.Tx, s scope.Scope, id string) (InternetGateway, error) {
	if v, ok := InternetGateways.Get(tx, s.Key(id)); ok {
		return v, nil
	}
	return InternetGateway{}, fault.New(fault.NotFound, "InvalidInternetGatewayID.NotFound", "The internetGateway ID '%s' does not exist", id)
}

// VPCGateway is the internet gateway that is attached to a VPC.
func VPCGateway(tx store.Tx, s scope.Scope, vpcID string) (InternetGateway, bool) {
	for g := range InternetGateways.By(tx, "vpc", s.Key(vpcID)) {
		return g, true
	}
	return InternetGateway{}, false
}

// CreateInternetGateway makes a gateway that is attached to nothing.
func CreateInternetGateway(w *store.WriteTx, s scope.Scope) (InternetGateway, error) {
	n := 0
	for range InternetGateways.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxGateways {
		return InternetGateway{}, fault.New(fault.Limit, "InternetGatewayLimitExceeded", "The maximum number of internet gateways has been reached.")
	}
	g := InternetGateway{Scope: s, ID: w.NewID("igw"), CreatedAt: w.Now()}
	InternetGateways.Put(w, g)
	return g, nil
}

// AttachInternetGateway attaches a free gateway to a VPC that has none.
func AttachInternetGateway(w *store.WriteTx, s scope.Scope, id, vpcID string) error {
	g, err := GetInternetGateway(w, s, id)
	if err != nil {
		return err
	}
	if _, err := GetVPC(w, s, vpcID); err != nil {
		return err
	}
	if g.VpcID != "" {
		return fault.New(fault.Conflict, "Resource.AlreadyAssociated", "resource %s is already attached to network %s", id, g.VpcID)
	}
	if _, ok := VPCGateway(w, s, vpcID); ok {
		return fault.New(fault.Conflict, "InvalidParameterValue", "Network %s already has an internet gateway attached", vpcID)
	}
	g.VpcID = vpcID
	InternetGateways.Put(w, g)
	return nil
}

// DetachInternetGateway detaches a gateway, unless an interface of the VPC has a public address.
func DetachInternetGateway(w *store.WriteTx, s scope.Scope, id, vpcID string) error {
	g, err := GetInternetGateway(w, s, id)
	if err != nil {
		return err
	}
	if _, err := GetVPC(w, s, vpcID); err != nil {
		return err
	}
	if g.VpcID != vpcID {
		return fault.New(fault.State, "Gateway.NotAttached", "resource %s is not attached to network %s", id, vpcID)
	}
	for e := range ENIs.By(w, "vpc", s.Key(vpcID)) {
		if e.PublicIP != "" {
			return fault.New(fault.Conflict, "DependencyViolation", "Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", vpcID)
		}
	}
	g.VpcID = ""
	InternetGateways.Put(w, g)
	return nil
}

// DeleteInternetGateway deletes a gateway that is attached to nothing.
func DeleteInternetGateway(w *store.WriteTx, s scope.Scope, id string) error {
	g, err := GetInternetGateway(w, s, id)
	if err != nil {
		return err
	}
	if g.VpcID != "" {
		return fault.New(fault.Conflict, "DependencyViolation", "The internetGateway '%s' has dependencies and cannot be deleted.", id)
	}
	InternetGateways.Delete(w, s.Key(id))
	tag.DeleteAll(w, s, id)
	return nil
}
