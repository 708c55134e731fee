package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"path/filepath"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Files are a certificate, its key and the authorities, as agent.TLS has them.
type Files struct{ CertFile, KeyFile, CAFile string }

// Issue makes a certificate with a name and writes it beside the authority,
// replacing an earlier one. Invalid if the name is none of the rule.
func (a *Authority) Issue(n Name) (Files, error) {
	usage, base, err := n.use()
	if err != nil {
		return Files{}, err
	}
	uri, err := url.Parse(string(n))
	if err != nil {
		return Files{}, fault.As(fault.Invalid, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Files{}, fault.As(fault.Internal, err)
	}
	now := a.options.Now().UTC()
	end := now.Add(a.options.Validity)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"holkas"}, CommonName: base},
		NotBefore:             now.Add(-early),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{usage},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{uri},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return Files{}, fault.As(fault.Internal, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Files{}, fault.As(fault.Internal, err)
	}
	f := Files{filepath.Join(a.options.Dir, base+".crt"), filepath.Join(a.options.Dir, base+".key"), a.options.caCert()}
	return f, writePair(f.CertFile, []*x509.Certificate{cert}, f.KeyFile, key)
}

// use says what a certificate with a name can do, and the name of its files.
func (n Name) use() (x509.ExtKeyUsage, string, error) {
	switch id, isNode := n.node(); {
	case n == Controller:
		return x509.ExtKeyUsageClientAuth, "controller", nil
	case n == Operator:
		return x509.ExtKeyUsageClientAuth, "operator", nil
	case isNode:
		_, err := volume.ParseNodeID(id)
		return x509.ExtKeyUsageServerAuth, "node-" + id, err
	}
	return 0, "", fault.New(fault.Invalid, "certificate name %q: want %s, %s or %s<node id>", n, Controller, Operator, nodePrefix)
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	b[0] = b[0]&0x7f | 1<<6
	return new(big.Int).SetBytes(b)
}
