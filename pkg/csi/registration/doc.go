// Package registration makes a CSI driver known to the kubelet.
//
// The kubelet watches its directory plugins_registry. Of each socket that
// appears there it asks the plugin's name and the endpoint of its CSI service,
// as a path on the host, and then says whether it took it. A kubelet that starts
// asks all sockets that it finds, so that the socket need only be there and be
// answered; one that disappears is a driver that is gone.
//
// Invariants: the socket appears by a rename, so that it is never seen before it
// is answered, and takes the place of one that a dead process left. While Run
// runs, a socket that was removed (the kubelet's directory was wiped) is made
// again; one that another process has put in its place is left alone, since that
// process is the newer one. Only a socket of our own is removed at the end.
package registration
