// Package csi is the CSI services: it validates what a request says, translates
// it into the words of packages controller and node, and translates what they
// answer. It decides nothing and keeps nothing.
//
// # A request's way
//
// Serve puts every call through one interceptor. It counts and times the call,
// logs it with its secrets stripped, puts a logger that names the call into its
// context, sees to the specification's size limits, turns a panic into Internal,
// and turns a handler's error into a status. So a handler returns errors of
// package fault, and nothing else in the project knows gRPC codes. The table is
// in errors.go: what may still be under way is Canceled, DeadlineExceeded,
// Unavailable or Aborted and nothing else, since the sidecars forget a name
// after any other error.
//
// # Bad input
//
// A handler looks at a request in this order: fields that the specification
// requires and that are empty (Invalid), what of them cannot be understood
// (Invalid), ids, then everything else. An id that Holkas cannot have made is
// that of a thing that does not exist: a deletion succeeds, a list is empty,
// everything else is NotFound. A starting_token that is not one of ours is Busy,
// which is Aborted. A node that no topology term can mean is no fault: a volume
// that must be there cannot be placed, and has no capacity.
//
// # Invariants
//
// A capability is advertised only if it works. A reply is made of stored state,
// never of the request or the clock, so that a retry gets the same. A secret
// reaches no log, error or store. A paging token is the id of the last entry of
// its page, so it stays good whatever is deleted meanwhile.
//
// Whoever can connect to the socket can do everything with all volumes: it is
// made with mode 0600, for processes of the same user (the sidecars run as root
// beside the driver).
package csi
