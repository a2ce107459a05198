// Command skerry-shim runs one container instance: it holds the console, waits on the init process, records how it
// ended, and answers on a unix socket. It lives in its own session and survives everything above it. It is a program of
// its own because libcontainer executes its own binary again for the container's init, which must be small, and because
// libcontainer needs cgo, which the server does without.
package main
