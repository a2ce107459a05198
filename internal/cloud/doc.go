// Package cloud composes a whole cloud in one process: state, services, API, and the reconcilers that make this machine
// equal to the state. Run is `skerry up`, Down is `skerry down`.
//
// It decides nothing about instances, scaling or balancing; that is the domain's. It owns every goroutine of the control
// plane: each loop runs under Run's context and is waited for. Everything that touches the world is level-triggered and
// idempotent, so that after kill -9 the next Run reads the state, adopts what runs, and finishes what was half done.
//
//	run.go       start-up in order, shut-down in reverse
//	instances.go pending → running → terminated: driver, network, metadata, in that order
//	consoles.go  what terminated instances have said
//	networks.go  a VPC's desired network from the state
//	zones.go     the zones' data planes: started, watched, told what to do, listened to
//	simzones.go  what they would report, with the sim driver
//	names.go     load balancers' names on this host: fronts, the hosts file, DNS
//	vitals.go    status checks: does the shim answer, can init run, does the interface answer ARP
//	publish.go   measured CPU, memory, network and load-balancer counters into CloudWatch
//	check.go     what is refused before anything changes
//	logs.go      the bounds of the logs
//	status.go down.go teardown.go files.go hosts.go doctor.go   what `env`, `status`, `down` and `doctor` need
package cloud
