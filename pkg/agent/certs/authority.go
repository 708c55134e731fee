package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// How long certificates are good for unless Options say otherwise.
const (
	DefaultValidity          = 365 * 24 * time.Hour
	DefaultAuthorityValidity = 10 * DefaultValidity
)

// early is how long before it is made a certificate is good.
const early = 5 * time.Minute

// Options say where an authority lives and how long what it makes is good.
type Options struct {
	Dir               string           // made if it is not there
	Validity          time.Duration    // 0: DefaultValidity
	AuthorityValidity time.Duration    // 0: DefaultAuthorityValidity
	Now               func() time.Time // nil: time.Now
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, fault.New(fault.Invalid, "certificate directory: empty: want a path")
	}
	if o.Validity < 0 || o.AuthorityValidity < 0 {
		return o, fault.New(fault.Invalid, "validity: %s, of the authority %s: want 0 (the default) or more", o.Validity, o.AuthorityValidity)
	}
	if o.Validity == 0 {
		o.Validity = DefaultValidity
	}
	if o.AuthorityValidity == 0 {
		o.AuthorityValidity = DefaultAuthorityValidity
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// Authority issues certificates. It is for one goroutine, and its folder for one
// process at a time.
type Authority struct {
	options Options
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
}

// Open opens the authority of a folder, or makes one where there is none.
// Precondition if half of one is there: what its other half signed may be in use.
func Open(o Options) (*Authority, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(o.caKey())
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(o.caCert()); err == nil {
			return nil, fault.New(fault.Precondition, "%s is there and %s is not: bring the key here, or remove the certificate to begin anew", o.caCert(), o.caKey())
		}
		return create(o, nil)
	}
	if err != nil {
		return nil, fault.As(fault.Precondition, err)
	}
	certs, err := readBundle(o.caCert())
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fault.Wrap(err, "read", o.caKey())
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, fault.New(fault.Precondition, "%s is not the key of the first certificate in %s: bring the two together", o.caKey(), o.caCert())
	}
	if now := o.Now(); now.After(certs[0].NotAfter) {
		return nil, fault.New(fault.Precondition, "the authority in %s expired at %s: rotate it", o.caCert(), certs[0].NotAfter)
	}
	return &Authority{o, certs[0], key}, nil
}

// Rotate makes a new authority in a folder that has one, and keeps the old one's
// certificate behind its own, so that what that signed is believed until it is
// replaced. Those that have expired go.
func Rotate(o Options) (*Authority, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	old, err := readBundle(o.caCert())
	if err != nil {
		return nil, err
	}
	var kept []*x509.Certificate
	for _, c := range old {
		if o.Now().Before(c.NotAfter) {
			kept = append(kept, c)
		}
	}
	return create(o, kept)
}

func (o Options) caCert() string { return filepath.Join(o.Dir, "ca.crt") }
func (o Options) caKey() string  { return filepath.Join(o.Dir, "ca.key") }

func create(o Options, older []*x509.Certificate) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	now := o.Now().UTC()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"holkas"}, CommonName: "agent authority of " + now.Format(time.DateOnly)},
		NotBefore:             now.Add(-early),
		NotAfter:              now.Add(o.AuthorityValidity),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fault.As(fault.Precondition, err)
	}
	if err := writePair(o.caCert(), append([]*x509.Certificate{cert}, older...), o.caKey(), key); err != nil {
		return nil, err
	}
	return &Authority{o, cert, key}, nil
}
