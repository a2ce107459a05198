package network

import (
	"iter"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// useFront is the value of the index "use" for fronts.
const useFront = "front"

// A front is a public address that no interface has: the host spreads its connections over other public addresses. Its
// holder is whatever those belong to, by a name that is unique over the cloud (an ARN).

// Fronts lists the fronts of the cloud.
func Fronts(tx store.Tx) iter.Seq[PublicAddress] { return PublicAddresses.By(tx, "use", useFront) }

// Front returns the holder's front.
func Front(tx store.Tx, holder string) (PublicAddress, bool) {
	for a := range Fronts(tx) {
		if a.HolderID == holder {
			return a, true
		}
	}
	return PublicAddress{}, false
}

// TakeFront takes a front from the pool for a holder, who has at most one: again gives the same.
func TakeFront(w *store.WriteTx, s scope.Scope, holder string) (string, error) {
	if a, ok := Front(w, holder); ok {
		return a.IP, nil
	}
	ip, err := takePublic(w, s, holder)
	if err != nil {
		return "", err
	}
	PublicAddresses.Put(w, PublicAddress{Scope: s, IP: ip, HolderID: holder, Front: true})
	return ip, nil
}

// GiveFront gives the holder's front back, if it has one.
func GiveFront(w *store.WriteTx, holder string) {
	if a, ok := Front(w, holder); ok {
		givePublic(w, a.IP)
	}
}
