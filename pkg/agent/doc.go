// Package agent is the internal API: it lets a controller or a node plugin use
// the backends of a node's engine as if they were in its own process.
//
// A Server stands before an engine's backends; a Dialer gives the same
// backend.Backend on the other side, for any number of nodes. On one machine
// they speak over a unix socket, between machines over TCP with mutual TLS;
// without TLS there is no TCP.
//
// # What holds
//
//   - An error has the kind and the message that the backend gave it, on
//     whichever side it is looked at. One of the transport is Transient: the
//     outcome is unknown. The end of the caller's context is Canceled or
//     Deadline, and reaches the backend.
//   - A listing that did not come to its end is an error, whatever ended it: the
//     engine's death, a backend's fault, a reply that makes no sense. It is never
//     a short listing.
//   - A call reaches the engine of the node that it is for or none: over TCP the
//     engine's certificate says which node's it is, and everywhere the call
//     itself says which node it means. An address that another node's engine has
//     taken over is Transient.
//   - Every request is looked at before a backend sees it; what is wrong with it
//     is Invalid, all of it at once, by the names of the fields. An id that
//     Holkas cannot have made names nothing: deleting it is success, and using it
//     is NotFound.
//   - Secrets are passed on and nowhere else: no log, error or metric has them.
//     The log has the method, the backend and ids, and nothing else of a request.
//   - A panic in a backend is Internal for its caller, and the engine goes on.
//   - Nothing waits without bound for a peer that is dead: both sides ping.
//
// # Who may call whom
//
// A certificate has one or more names, as URIs among its subject's alternative
// names, compared byte by byte:
//
//	holkas://agent/controller       a controller: may call every engine
//	holkas://agent/operator         an operator's tool: as a controller
//	holkas://agent/node/<node id>   a node's engine: may answer as that node
//
// An engine takes calls from controllers and operators. A client calls a node
// only if the engine's certificate has that node's name. So what a stolen
// certificate of a node can do ends at that node: it commands no other, and
// passes for no other. Node plugins use the unix socket of their own node, which
// only its owner can open. DNS names and addresses in a certificate mean nothing
// here. The certificate authority is one of the site's own and signs nothing
// else, since what it signs is believed; package certs makes one.
//
// Certificate, key and authorities are read at every handshake, and taken only
// when all three are whole and fit; until then the last ones that were stay in
// use. Connections are renewed every hour, so that a certificate that expired or
// an authority that was removed ends with them. To rotate an authority: add the
// new one to every CA file, then replace the certificates, then remove the old.
//
// # What it does not do
//
// It repeats no call, since only the caller knows whether it may; it keeps
// nothing but connections; and it knows of no catalogue.
package agent
