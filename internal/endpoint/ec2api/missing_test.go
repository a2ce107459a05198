package ec2api

import "testing"

func TestEveryOperationOfTheManifestIsServed(t *testing.T) {
	for _, op := range newCloud(t).mux.Missing() {
		t.Errorf("%s has no handler: the manifest (api/operations.txt) says that it is served", op)
	}
}
