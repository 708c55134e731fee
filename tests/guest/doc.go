// Package guest runs tests in a virtual machine, with a stock Debian kernel:
// those of what this machine's own kernel may not have. Package inside has the
// tests; this one makes a machine for them.
//
// `make guest` runs it. The kernel is a Debian package that is fetched and
// unpacked, not installed. Emulation makes it slow, so nothing is measured in
// there, and it is no part of `make test`.
package guest
