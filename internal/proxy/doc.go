// Package proxy is the application load balancer's engine: it accepts HTTP/1, plain or over TLS, and HTTP/2 over TLS, decides by
// rules, and forwards to targets over pooled HTTP/1.1 or multiplexed HTTP/2 connections. It runs in a zone's process, one Proxy a load-balancer
// node, and alone as `skerry proxy`.
//
// Vocabulary. A Config says everything that a node serves. Apply compiles it into a table: immutable, swapped atomically.
// An exchange is one request with its answer; it keeps the table that it began with. A target's live state (connections,
// requests in flight, when it became healthy) is kept across tables by group and target.
//
// Guarantees.
//   - A message whose framing two parsers could read differently is never forwarded as it is: the request is answered 400
//     or, where the desync mode lets it pass, repaired (desync.go; every parsed request must be judged before it goes on) and
//     its connections end; the response becomes 502 (or is cut, when its head has gone out), and the connection is closed.
//   - What is forwarded is framed anew: one Content-Length or one chunked coding, no hop-by-hop header passes.
//   - A request is sent a second time only if no byte of the answer arrived on a reused connection, all of its bytes are
//     still at hand, and it is idempotent or was never written whole. One that changes nothing (GET, HEAD, OPTIONS) goes to another
//     target if the connection to the one before broke before a byte of the answer, to three in all.
//   - Apply drops no connection of a listener that stays, and changes nothing if it returns an error.
//   - Memory a connection is bounded: heads by the AWS limits, bodies by the transfer buffers.
//   - Above MaxConnections, or when seven eighths of the descriptors are in use, a client that connects is refused at once.
//
// Loops (loop*.go; Linux only). An Engine is a set of epoll loops, each on a locked thread, shared by the Proxies of a process. A loop
// accepts on a socket of its own and carries HTTP/1 in the clear or under TLS (tlsfront's handshake in steps, then record) without a
// goroutine or an allocation, as far as an action is plain: own answers, and forwarding to HTTP/1.1 targets in the clear. What it
// doesn't carry (HTTP/2, upgrades, other target groups, authentication, suites that record lacks) it leaves to a goroutine, with the
// bytes at hand, for the rest of the connection's life. exchange.serve decides for both and says which it is.
//   - A loop never waits, takes no lock that Apply holds, and learns of changes by commands, which Apply waits for.
//   - Clients and targets have an epoll set each: answers are passed on before more requests go out, so few connections to targets do.
//   - A descriptor is registered once, edge-triggered. A short read means that nothing is left only if no end was announced: the
//     end that comes with the last bytes has no event of its own. An event names its descriptor's generation, not the number alone.
//   - Neither side is read while the other has bytes to take; at most one read's worth waits. An idle connection holds no buffer.
//   - Time limits stand in a wheel where they are due at the earliest; a request only moves its due time on.
//   - Connections to targets are pooled a loop, last used first; any event on an idle one closes it.
//   - The loop looks for events without telling Go's scheduler, and tells it when it has to wait. A process with loops should
//     have half as many processors (GOMAXPROCS) again, so that goroutines need not wait for one, nor a loop for them: so many
//     handshakes use a long RSA key at once, which is no loop's work.
//
// HTTP/2 (h2*.go; clients' side on Linux only). A client's connection is a state machine run by one goroutine, which also carries
// the exchanges of requests without a body with plain HTTP/1.1 targets, on sockets in an epoll set of its own; every other exchange
// has a goroutine and meets the connection under its mutex. One that has been idle for a moment is parked: it leaves its goroutine and its
// epoll set, until its socket says something or its time has come. A stream's fields become an HTTP/1.1 head that the one parser reads. To
// an exchange, a stream of a target's HTTP/2 connection (h2call) looks like a connection that speaks HTTP/1.1.
//
// Who asks (oidc.go, jwt.go, idp.go): an action that authenticates stands before the deciding one and is carried by goroutines
// only. Rules are indexed (index.go): a request tries those that one literal part of it allows, which changes no answer.
//
// Less formally: parsing (head.go, chunk.go, desync.go), deciding (index.go, match.go, pick.go) and encoding (forward.go, pages.go) do
// no I/O and know no connection, so loops and goroutines (conn.go, exchange.go: one a connection) share them.
// You may not assume that a time limit fires more exactly than tick allows, or that Stats adds up while requests run.
//
// Logs (accesslog.go, logfile.go) never make a request wait: a line is packed into a buffer of its loop at once, or dropped and counted.
// Anomalies (anomaly.go) are judged every ten seconds by the ticker.
//
// A Proxy owns all its goroutines, besides the engine's loops: one a client connection that no loop carries, one for a request body that is not at hand when
// its head is, one for an HTTP/2 stream with a body, two for an HTTP/2 connection to a target, one for the time limits, one for the logs. Shutdown waits for them. The package imports tlsfront, record and
// gzline, no other part of the project.
package proxy
