// Package backendtest is the conformance suite of pkg/backend: Run holds an
// implementation to every sentence of the contract. The backends run it in
// process, and the agent's client runs it against the engine of another process
// on the same machine.
//
// The suite knows the contract only. It reads and writes volumes through their
// devices, and formats and mounts some, as root. All its tests share one backend,
// and each removes what it made; the last one sees that nothing is left. Pool
// makes the filesystems that local backends need for it.
package backendtest
