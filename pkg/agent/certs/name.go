package certs

import (
	"crypto/x509"
	"strings"

	"github.com/holkas-io/holkas/pkg/volume"
)

// Name says what a certificate is for.
type Name string

// The names that are one for all.
const (
	Controller Name = "holkas://agent/controller"
	Operator   Name = "holkas://agent/operator"
)

const nodePrefix = "holkas://agent/node/"

// Node is the name of a node's engine. Every character that a node id can have
// stands for itself in a URI.
func Node(id volume.NodeID) Name { return Name(nodePrefix + string(id)) }

// In reports whether a certificate has the name.
func (n Name) In(c *x509.Certificate) bool {
	for _, u := range c.URIs {
		if u.String() == string(n) {
			return true
		}
	}
	return false
}

// Names renders what a certificate is for, for messages.
func Names(c *x509.Certificate) string {
	var all []string
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	if len(all) == 0 {
		return "no URI"
	}
	s := strings.Join(all, ", ")
	return s[:min(len(s), 200)]
}

// node returns the node that a name is of, if it is one's.
func (n Name) node() (id string, ok bool) { return strings.CutPrefix(string(n), nodePrefix) }
