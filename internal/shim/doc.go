// Package shim is the contract between the container driver and the per-instance shim process (cmd/skerry-shim): the
// files in an instance's directory and the requests on the shim's unix socket.
//
//	DATA/instances/ID/config.json   what to run, written by the driver at Create
//	DATA/instances/ID/state.json    the current run: init's pid and start time, written by the shim
//	DATA/instances/ID/exit.json     how the last run ended
//	DATA/instances/ID/console.log   console output; console.log.1 is the older half
//	DATA/instances/ID/shim.lock     locked (flock) as long as the shim lives
//	DATA/instances/ID/shim.sock     one JSON request line, JSON reply lines
//	DATA/instances/ID/ns/{user,net} bind-mounted namespaces
//
// It imports only the standard library and x/sys: the server must never pull libcontainer in through it.
package shim
