// Package site puts a whole Holkas installation on one machine: pools in image
// files, and the controller, node and engine as three processes that talk over
// unix sockets, as they would on Kubernetes. The demo and the tests that need
// real processes run on it.
//
// Everything that a Site makes lies under one directory, and Close takes all of
// it away again: processes (by their pid), mounts, loop devices and files. A
// process can be killed and started again at any time, which is what the tests
// of crashes do.
package site
