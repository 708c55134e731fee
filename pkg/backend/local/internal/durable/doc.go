// Package durable changes files so that a power loss leaves the old state or
// the new one: what a function did is on the disk when it returns.
package durable
