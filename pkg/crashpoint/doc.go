// Package crashpoint marks the places between two durable steps.
//
// In an ordinary build Here does nothing and costs nothing. In one made with the
// build tag "crashpoint" the process kills itself (SIGKILL) at the k-th place
// that it passes, where k stands in the file HOLKAS_CRASH_FILE: a test walks k upwards
// until the operation runs through, and looks at what each death left behind.
package crashpoint
