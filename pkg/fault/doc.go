// Package fault holds the project's typed errors.
//
// Every error that crosses a package boundary carries a Kind, which says what
// the caller can do about it, the operation that met it and the thing that it
// is about. The services turn kinds into gRPC codes from one table each
// (pkg/csi for the CSI services, pkg/agent for the internal API); nothing else
// in the project knows gRPC codes.
//
// Invariants: a message names the field, its value (never a secret) and what
// would be right; an error is wrapped once a layer, with the subject added; an
// error is returned or logged, never both.
package fault
