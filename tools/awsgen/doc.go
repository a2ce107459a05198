// Command awsgen writes the wire contract: the Go packages under api/, one a service, from facts about AWS's services
// (operations, shapes, wire names; no prose).
//
//	go run -C tools/awsgen . -models DIR   # cut the full models in DIR down to api/operations.txt, into api/models
//	go run -C tools/awsgen ./inert -root . # note in api/inert.txt which members no handler reads
//	go generate ./api/...                  # write the packages from api/models; needs no network and no other input
//
// The output depends on api/operations.txt, api/inert.txt and api/models alone, so a change shows as a diff. Every member of every
// shape that a listed operation can reach is generated: what a client sends is then never dropped without a trace.
package main
