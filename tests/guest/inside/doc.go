// Package inside has the tests that run in a virtual machine of their own, as
// its first process: see package guest.
package inside
