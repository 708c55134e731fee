// Package faults is a store around a store that does to requests what a script
// says: errors before and after they take effect, replies that are lost, effects
// that come late or twice, delays, silence, requests to slow down, bodies that
// are cut off or have a bit flipped, outages. It is for tests.
//
// A script is asked once a request, in the order in which they arrive, and never
// by two at once. Random scripts depend on their seed and that order alone; Join
// lets the first script speak that has something to say.
//
// What the wrapper answers keeps to the contract of package objstore, but for
// Short and Flip, which are what a store does that lies.
package faults
