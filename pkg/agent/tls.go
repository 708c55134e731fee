package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"sync"

	"github.com/holkas-io/holkas/pkg/agent/certs"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TLS names PEM files: a certificate (with its intermediates, if any), its key,
// and the authorities that are believed, one or more. All or none; they are read
// again at every handshake.
type TLS struct{ CertFile, KeyFile, CAFile string }

// Validate reports files that are missing beside others, as Invalid.
func (t TLS) Validate() error {
	if t == (TLS{}) {
		return nil
	}
	var faults []error
	for _, f := range []struct{ field, value string }{
		{"certificate file", t.CertFile}, {"key file", t.KeyFile}, {"CA file", t.CAFile},
	} {
		if f.value == "" {
			faults = append(faults, fault.New(fault.Invalid, "TLS %s: none, but others are given: want all of certificate, key and CA, or none", f.field))
		}
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

// identity is what the files hold, as one.
type identity struct {
	cert        tls.Certificate
	authorities *x509.CertPool
}

func (t TLS) load() (*identity, error) {
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fault.New(fault.Invalid, "TLS certificate %s and key %s: %w", t.CertFile, t.KeyFile, err)
	}
	bundle, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fault.New(fault.Invalid, "TLS CA file: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(bundle) {
		return nil, fault.New(fault.Invalid, "TLS CA file %s: no certificate in it: want one or more in PEM", t.CAFile)
	}
	return &identity{cert, authorities}, nil
}

// identities reads the files again for each handshake. While they do not fit
// each other, as in the middle of a rotation, it keeps to the last that did.
type identities struct {
	files   TLS
	failing func(error) // hears of a failed reading, once until it changes

	mu     sync.Mutex
	last   *identity
	failed string
}

func newIdentities(files TLS, failing func(error)) (*identities, error) {
	first, err := files.load()
	if err != nil {
		return nil, err
	}
	return &identities{files: files, failing: failing, last: first}, nil
}

func (i *identities) current() *identity {
	i.mu.Lock()
	defer i.mu.Unlock()
	now, err := i.files.load()
	if err != nil {
		if said := err.Error(); said != i.failed { // anybody can make us read
			i.failed = said
			i.failing(err)
		}
		return i.last
	}
	i.last, i.failed = now, ""
	return now
}

// server is the configuration of an engine: it believes certificates of its
// authorities. What they may do is looked at call by call (authorise), which can
// say what is wrong.
func (i *identities) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := i.current()
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				Certificates: []tls.Certificate{now.cert},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    now.authorities,
				// Every connection shows its certificate anew.
				SessionTicketsDisabled: true,
			}, nil
		},
	}
}

// client is the configuration for calling one node.
func (i *identities) client(node volume.NodeID) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &i.current().cert, nil
		},
		// The name of the naming rule is verified in place of a DNS name, and
		// the chain with it, against authorities as they are now.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return verifyNode(s, i.current().authorities, node)
		},
	}
}

func verifyNode(s tls.ConnectionState, authorities *x509.CertPool, node volume.NodeID) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the engine has no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	leaf := s.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: intermediates,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return err
	}
	if !certs.Node(node).In(leaf) {
		return fault.New(fault.Invalid, "the engine's certificate is for %s: want %s", certs.Names(leaf), certs.Node(node))
	}
	return nil
}
