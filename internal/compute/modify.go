package compute

import (
	"slices"

	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Modify changes an instance's settings by fn, which leaves state, addresses and groups alone.
func Modify(w *store.WriteTx, s scope.Scope, id string, fn func(*Instance) error) (Instance, error) {
	i, err := GetInstance(w, s, id)
	if err != nil {
		return Instance{}, err
	}
	if !i.Live() {
		return Instance{}, fault.New(fault.State, "IncorrectInstanceState", "Unable to modify an instance that is %s: '%s'", i.State, id)
	}
	if err := fn(&i); err != nil {
		return Instance{}, err
	}
	Instances.Put(w, i)
	return i, nil
}

// NeedStopped refuses changes that only a stopped instance may have.
func (i Instance) NeedStopped() error {
	if i.State != Stopped {
		return fault.New(fault.State, "IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state.", i.ID)
	}
	return nil
}

// SetType changes a stopped instance's type.
func (i *Instance) SetType(name string) error {
	if err := i.NeedStopped(); err != nil {
		return err
	}
	t, err := typeFor(name)
	if err != nil {
		return err
	}
	if !slices.Contains(t.Architectures, i.Architecture) {
		return fault.New(fault.Invalid, "InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the instance.", t.Architectures[0], i.Architecture)
	}
	i.InstanceType, i.CoreCount, i.ThreadsPerCore = t.Name, t.Cores, t.ThreadsPerCore()
	if !t.Burstable {
		i.CPUCredits = ""
	} else if i.CPUCredits == "" {
		i.CPUCredits = t.DefaultCredit
	}
	return nil
}

// SetUserData changes a stopped instance's user data, in base64.
func (i *Instance) SetUserData(b64 string) error {
	if err := i.NeedStopped(); err != nil {
		return err
	}
	if err := CheckUserData(b64); err != nil {
		return err
	}
	i.UserData = b64
	return nil
}

// SetGroups replaces the security groups of an instance's primary interface.
func SetGroups(w *store.WriteTx, s scope.Scope, id string, groups []string) error {
	i, err := GetInstance(w, s, id)
	if err != nil {
		return err
	}
	if _, err := network.SetGroups(w, s, i.ENIID, groups); err != nil {
		return err
	}
	Refresh(w, s, id)
	return nil
}

// AssociateProfile gives an instance a profile; one that has one already is refused.
func AssociateProfile(w *store.WriteTx, s scope.Scope, id, arn, name string) (Instance, error) {
	profile, profileID, err := ResolveProfile(w, s, arn, name)
	if err != nil {
		return Instance{}, err
	}
	return Modify(w, s, id, func(i *Instance) error {
		if i.ProfileAssociationID != "" {
			return fault.New(fault.State, "IncorrectState", "There is an existing association for instance %s", id)
		}
		i.IamInstanceProfileArn, i.IamInstanceProfileID, i.ProfileAssociationID, i.ProfileAssociatedAt = profile, profileID, w.NewID("iip-assoc"), w.Now()
		return nil
	})
}

// ProfileAssociation finds the instance with an association.
func ProfileAssociation(tx store.Tx, s scope.Scope, association string) (Instance, error) {
	for i := range Instances.By(tx, "profile", s.Key(association)) {
		return i, nil
	}
	return Instance{}, fault.New(fault.NotFound, "InvalidAssociationID.NotFound", "An invalid association-id of '%s' was given", association)
}

// DisassociateProfile takes an instance's profile away and returns the instance as it was.
func DisassociateProfile(w *store.WriteTx, s scope.Scope, association string) (Instance, error) {
	i, err := ProfileAssociation(w, s, association)
	if err != nil {
		return Instance{}, err
	}
	was := i
	i.IamInstanceProfileArn, i.IamInstanceProfileID, i.ProfileAssociationID = "", "", ""
	Instances.Put(w, i)
	return was, nil
}

// ReplaceProfile puts another profile in an association's place.
func ReplaceProfile(w *store.WriteTx, s scope.Scope, association, arn, name string) (Instance, error) {
	was, err := DisassociateProfile(w, s, association)
	if err != nil {
		return Instance{}, err
	}
	return AssociateProfile(w, s, was.ID, arn, name)
}

// SetCredits changes the credit mode of a burstable instance.
func SetCredits(w *store.WriteTx, s scope.Scope, id, mode string) (Instance, error) {
	if mode != "standard" && mode != "unlimited" {
		return Instance{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter cpuCredits is invalid. Valid values are: standard, unlimited.", mode)
	}
	return Modify(w, s, id, func(i *Instance) error {
		if t, ok := TypeByName(i.InstanceType); !ok || !t.Burstable {
			return fault.New(fault.Invalid, "InstanceCreditSpecification.NotSupported", "The instance type %s of instance %s does not have CPU credits.", i.InstanceType, id)
		}
		i.CPUCredits = mode
		return nil
	})
}

// SetCPUOptions changes a stopped instance's cores and threads.
func SetCPUOptions(w *store.WriteTx, s scope.Scope, id string, cores, threads int) (Instance, error) {
	return Modify(w, s, id, func(i *Instance) error {
		if err := i.NeedStopped(); err != nil {
			return err
		}
		t, err := typeFor(i.InstanceType)
		if err != nil {
			return err
		}
		if cores < 1 || cores > t.Cores || threads < 1 || threads > t.ThreadsPerCore() {
			return fault.New(fault.Invalid, "InvalidParameterValue", "The specified CpuOptions (CoreCount %d, ThreadsPerCore %d) are not valid for instance type %s.", cores, threads, t.Name)
		}
		i.CoreCount, i.ThreadsPerCore = cores, threads
		return nil
	})
}
