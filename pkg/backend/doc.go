// Package backend says what a backend must do: keep volumes, snapshot them, give
// their devices, and tell what changed.
//
// The contract is one interface, Backend, and a conformance suite
// (pkg/backend/backendtest) that every implementation runs. The local and object
// backends run inside a node's engine; the agent's client implements the same
// interface by calling the engine of another process or machine, and runs the
// same suite. A controller therefore never knows where a backend's work is done.
//
// Invariants. Every operation is idempotent by id: repeated with the same
// arguments it returns the same reply, also after the process died in its
// middle. A create with an id that was deleted is refused (Fenced), so that a
// delayed duplicate cannot bring a volume back. What a call returned is durable.
// A call that failed with anything but Transient, Busy, Canceled or Deadline has
// undone what it did. Operations on one volume exclude one another; a second one
// waits within its context or fails with Busy.
package backend
