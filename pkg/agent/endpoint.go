package agent

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Endpoint is where a server listens, or where a client finds it.
type Endpoint struct {
	Network string // "unix" or "tcp"
	Address string // an absolute path, or "host:port"
}

// String renders the endpoint as ParseEndpoint reads it.
func (e Endpoint) String() string { return e.Network + "://" + e.Address }

// maxSocketBytes is what the kernel takes as a socket's path, less what the name
// has in addition while the socket is made.
const maxSocketBytes = 107 - len(socketPrefix) - len(socketSuffix)

// ParseEndpoint reads "unix:///absolute/path" or "tcp://host:port". Invalid if
// it is neither.
func ParseEndpoint(s string) (Endpoint, error) {
	if address, ok := strings.CutPrefix(s, "tcp://"); ok {
		return tcpEndpoint(s, address)
	}
	path, ok := strings.CutPrefix(s, "unix://")
	switch {
	case !ok:
		return Endpoint{}, fault.New(fault.Invalid, "endpoint %q: want unix:///path/of/socket or tcp://host:port", clip(s))
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/":
		return Endpoint{}, fault.New(fault.Invalid, "endpoint %q: want unix:// and an absolute path without . and ..", clip(s))
	case strings.ContainsRune(path, 0):
		return Endpoint{}, fault.New(fault.Invalid, "endpoint %q: want a path without NUL", clip(s))
	case len(path) > maxSocketBytes:
		return Endpoint{}, fault.New(fault.Invalid, "endpoint %q: its path has %d bytes: want at most %d", clip(s), len(path), maxSocketBytes)
	}
	return Endpoint{Network: "unix", Address: path}, nil
}

// parseAddress reads a node record's address: "unix:///path" or "host:port".
func parseAddress(s string) (Endpoint, error) {
	if strings.Contains(s, "://") {
		return ParseEndpoint(s)
	}
	return tcpEndpoint(s, s)
}

func tcpEndpoint(whole, address string) (Endpoint, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Endpoint{}, fault.New(fault.Invalid, "endpoint %q: %w: want host:port", clip(whole), err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Endpoint{}, fault.New(fault.Invalid, "endpoint %q: port %q: want a number from 1 to 65535", clip(whole), clip(port))
	}
	for _, c := range host {
		if c <= ' ' || c == 0x7f || c == '/' {
			return Endpoint{}, fault.New(fault.Invalid, "endpoint %q: host %q: want a name or an address", clip(whole), clip(host))
		}
	}
	return Endpoint{Network: "tcp", Address: address}, nil
}

// clip is what of an input a message holds.
func clip(s string) string { return s[:min(len(s), 200)] }
