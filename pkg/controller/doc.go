// Package controller is the domain behind the CSI controller services: it
// places volumes, keeps the repository's records, and has the nodes' engines do
// the work.
package controller
