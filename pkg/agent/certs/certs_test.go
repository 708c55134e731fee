package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/agent/certs"
	"github.com/holkas-io/holkas/pkg/fault"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func options(dir string, now time.Time) certs.Options {
	return certs.Options{Dir: dir, Now: func() time.Time { return now }}
}

func open(t *testing.T, o certs.Options) *certs.Authority {
	t.Helper()
	a, err := certs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *certs.Authority, n certs.Name) (certs.Files, *x509.Certificate) {
	t.Helper()
	f, err := a.Issue(n)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return f, pair.Leaf
}

func verify(f certs.Files, c *x509.Certificate, at time.Time, usage x509.ExtKeyUsage) error {
	bundle, err := os.ReadFile(f.CAFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err = c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestIssue(t *testing.T) {
	for _, c := range []struct {
		name   certs.Name
		file   string
		allows x509.ExtKeyUsage
		denies x509.ExtKeyUsage
	}{
		{certs.Controller, "controller", x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		{certs.Operator, "operator", x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		{certs.Node("Node_1.a-b"), "node-Node_1.a-b", x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	} {
		dir := t.TempDir()
		f, leaf := issue(t, open(t, options(dir, began)), c.name)
		if want := filepath.Join(dir, c.file+".crt"); f.CertFile != want {
			t.Errorf("%s: got %s, want %s", c.name, f.CertFile, want)
		}
		if !c.name.In(leaf) || certs.Names(leaf) != string(c.name) {
			t.Errorf("%s: the certificate is for %s", c.name, certs.Names(leaf))
		}
		if err := verify(f, leaf, began, c.allows); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if verify(f, leaf, began, c.denies) == nil {
			t.Errorf("%s: can do what it should not", c.name)
		}
		for _, at := range []time.Time{began.Add(-6 * time.Minute), began.Add(certs.DefaultValidity + time.Second)} {
			if verify(f, leaf, at, c.allows) == nil {
				t.Errorf("%s: is good at %s", c.name, at)
			}
		}
		if key := leaf.PublicKey.(*ecdsa.PublicKey); key.Curve != elliptic.P256() {
			t.Errorf("%s: a %s key", c.name, key.Curve.Params().Name)
		}
		for file, want := range map[string]os.FileMode{f.CertFile: 0o644, f.KeyFile: 0o600, f.CAFile: 0o644, filepath.Join(dir, "ca.key"): 0o600} {
			if info, err := os.Stat(file); err != nil || info.Mode() != want {
				t.Errorf("%s: got %v, %v: want mode %v", file, info.Mode(), err, want)
			}
		}
	}
}

func TestNoOtherNames(t *testing.T) {
	a := open(t, options(t.TempDir(), began))
	for _, n := range []certs.Name{"", "controller", "holkas://agent/", "holkas://agent/node/", "holkas://agent/node/../x", "holkas://agent/node/a/b", "https://agent/controller"} {
		if _, err := a.Issue(n); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, want Invalid", n, err)
		}
	}
}

// TestNeverOutlivesItsAuthority issues at the end of the authority's time.
func TestNeverOutlivesItsAuthority(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir, began))
	late := began.Add(certs.DefaultAuthorityValidity - time.Hour)
	_, leaf := issue(t, open(t, options(dir, late)), certs.Controller)
	if want := began.Add(certs.DefaultAuthorityValidity); !leaf.NotAfter.Equal(want) {
		t.Errorf("good until %s, want %s", leaf.NotAfter, want)
	}
	if _, err := certs.Open(options(dir, late.Add(2*time.Hour))); !fault.Is(err, fault.Precondition) {
		t.Errorf("an expired authority: got %v, want Precondition", err)
	}
}

// TestRotate walks the way that the documentation tells: at each step what is in
// use is believed.
func TestRotate(t *testing.T) {
	dir := t.TempDir()
	_, old := issue(t, open(t, options(dir, began)), certs.Controller)
	later := began.Add(24 * time.Hour)
	a, err := certs.Rotate(options(dir, later))
	if err != nil {
		t.Fatal(err)
	}
	f, renewed := issue(t, a, certs.Controller)
	for what, c := range map[string]*x509.Certificate{"old": old, "new": renewed} {
		if err := verify(f, c, later, x509.ExtKeyUsageClientAuth); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, again := issue(t, open(t, options(dir, later)), certs.Operator)
	if err := verify(f, again, later, x509.ExtKeyUsageClientAuth); err != nil {
		t.Errorf("by the newest authority: %v", err)
	}
	keepFirst(t, f.CAFile)
	if verify(f, old, later, x509.ExtKeyUsageClientAuth) == nil {
		t.Error("the old certificate is believed without its authority")
	}
	if err := verify(f, renewed, later, x509.ExtKeyUsageClientAuth); err != nil {
		t.Error(err)
	}
}

func keepFirst(t *testing.T, bundle string) {
	t.Helper()
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	first, rest := pem.Decode(data)
	if second, _ := pem.Decode(rest); second == nil {
		t.Fatal("only one authority in the bundle")
	}
	if err := os.WriteFile(bundle, pem.EncodeToMemory(first), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestHalfAnAuthority never makes a new one beside what may be in use.
func TestHalfAnAuthority(t *testing.T) {
	for name, harm := range map[string]func(dir string) error{
		"no key":         func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) },
		"no certificate": func(dir string) error { return os.Remove(filepath.Join(dir, "ca.crt")) },
		"another's key": func(dir string) error {
			return os.Rename(filepath.Join(dir, "operator.key"), filepath.Join(dir, "ca.key"))
		},
		"a cut key":       func(dir string) error { return os.Truncate(filepath.Join(dir, "ca.key"), 40) },
		"a cut bundle":    func(dir string) error { return os.Truncate(filepath.Join(dir, "ca.crt"), 100) },
		"an empty bundle": func(dir string) error { return os.Truncate(filepath.Join(dir, "ca.crt"), 0) },
	} {
		dir := t.TempDir()
		issue(t, open(t, options(dir, began)), certs.Operator)
		if err := harm(dir); err != nil {
			t.Fatal(err)
		}
		_, err := certs.Open(options(dir, began))
		if !fault.Is(err, fault.Precondition) && !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v, want Precondition or Corrupt", name, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]certs.Options{
		"no folder":         {},
		"negative validity": {Dir: t.TempDir(), Validity: -1},
	} {
		if _, err := certs.Open(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
}
