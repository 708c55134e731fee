// Package volume holds the words that every other package shares: ids and
// handles, classes (the parameters of a StorageClass), sizes, and filesystems.
//
// Invariants: an id is random, never derived from a name and never reused; a
// value of a type of this package that came out of a Parse function is valid
// and safe to use as a path element or an object key; sizes are in bytes and
// multiples of SizeUnit. The package knows nothing of CSI, of stores or of
// devices, and imports no other package of the project but fault.
package volume
