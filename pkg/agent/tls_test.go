package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/agent/certs"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
)

// site is an authority with a folder of its own.
type site struct {
	t   testing.TB
	dir string
	a   *certs.Authority
}

func newSite(t testing.TB, o certs.Options) *site {
	t.Helper()
	o.Dir = t.TempDir()
	a, err := certs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, o.Dir, a}
}

func (s *site) issue(n certs.Name) TLS {
	s.t.Helper()
	f, err := s.a.Issue(n)
	if err != nil {
		s.t.Fatal(err)
	}
	return TLS(f)
}

// both makes a certificate that an operator's own service may make: good for
// calling and answering, with any URIs.
func (s *site) both(file string, uris ...string) TLS {
	s.t.Helper()
	ca, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "ca.crt"), filepath.Join(s.dir, "ca.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	base := s.issue(certs.Operator)
	own, err := tls.LoadX509KeyPair(base.CertFile, base.KeyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost", "controller.agent.holkas"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	template.Subject.CommonName = string(certs.Controller)
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			s.t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	key := own.PrivateKey.(*ecdsa.PrivateKey)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, &key.PublicKey, ca.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	keyPEM, err := os.ReadFile(base.KeyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	made := TLS{filepath.Join(s.dir, file+".crt"), filepath.Join(s.dir, file+".key"), base.CAFile}
	write(s.t, made.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(s.t, made.KeyFile, keyPEM)
	return made
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, data)
}

// served counts the calls that reach a backend.
type served struct{ calls atomic.Int64 }

func (s *served) fake() *fake {
	return &fake{health: func(context.Context) ([]backend.Health, error) { s.calls.Add(1); return nil, nil }}
}

// serveTCP serves a backend with a node's certificate at a free port.
func serveTCP(t testing.TB, files TLS, b backend.Backend) repository.Node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	identities, err := newIdentities(files, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	start(t, t.Context(), newServer(t, ServerOptions{Backends: map[string]backend.Backend{"local": b}, TLS: files}), identities, l)
	return repository.Node{ID: testNode, Address: l.Addr().String()}
}

// TestWhoMayCallWhom is the matrix of certificates on both sides.
func TestWhoMayCallWhom(t *testing.T) {
	home, foreign := newSite(t, certs.Options{}), newSite(t, certs.Options{})
	past := newSite(t, certs.Options{Now: func() time.Time { return time.Now().Add(-48 * time.Hour) }, Validity: time.Hour})
	node, controller := home.issue(certs.Node(testNode)), home.issue(certs.Controller)
	expired := func(n certs.Name) (mine, others TLS) { // both believe one authority
		mine = past.issue(n)
		return mine, past.both("good-"+filepath.Base(mine.CertFile), string(certs.Node(testNode)), string(certs.Controller))
	}
	expiredClient, goodServer := expired(certs.Controller)
	expiredServer, goodClient := expired(certs.Node(testNode))
	mixed := func(files TLS, ca string) TLS { files.CAFile = ca; return files }

	for _, c := range []struct {
		name           string
		server, client TLS
		says           string // empty: is let in
	}{
		{"controller", node, controller, ""},
		{"operator", node, home.issue(certs.Operator), ""},
		{"two names", home.both("two", string(certs.Node("b")), string(certs.Node(testNode))), home.both("cn", string(certs.Node("b")), string(certs.Controller)), ""},
		{"a node calls", node, home.both("node-calls", string(certs.Node("b"))), "not authorised"},
		{"the node itself calls", node, home.both("self-calls", string(certs.Node(testNode))), "not authorised"},
		{"a node calls with what package certs made", node, home.issue(certs.Node("b")), "tls"},
		{"no URI but telling DNS names and CN", node, home.both("no-uri"), "not authorised"},
		{"nearly a controller", node, home.both("nearly", string(certs.Controller)+"/x", "holkas://agent/Controller", "holkas://agent/%63ontroller", "holkas://agent/controller?x", "spiffe://agent/controller"), "not authorised"},
		{"client of a foreign authority", node, mixed(foreign.issue(certs.Controller), node.CAFile), "tls"},
		{"server of a foreign authority", node, mixed(controller, foreign.issue(certs.Controller).CAFile), "unknown authority"},
		{"client has expired", goodServer, expiredClient, "tls"},
		{"server has expired", expiredServer, goodClient, "expired"},
		{"a controller answers", home.both("controller-answers", string(certs.Controller)), controller, "want holkas://agent/node/" + string(testNode)},
		{"another node answers", home.both("other-answers", string(certs.Node("Node_1"))), controller, "want holkas://agent/node/" + string(testNode)},
		{"a node of another case answers", home.both("case-answers", string(certs.Node("node_1.a"))), controller, "want holkas://agent/node/" + string(testNode)},
		{"no URI answers", home.both("none-answers"), controller, "is for no URI"},
		{"a client's certificate answers", controller, controller, "incompatible key usage"},
	} {
		var s served
		b := dialWith(t, &Dialer{TLS: c.client}, serveTCP(t, c.server, s.fake()))
		_, err := b.Health(t.Context())
		switch {
		case c.says == "" && (err != nil || s.calls.Load() != 1):
			t.Errorf("%s: got %v, and %d calls: want to be let in", c.name, err, s.calls.Load())
		case c.says != "" && (!fault.Is(err, fault.Transient) || s.calls.Load() != 0):
			t.Errorf("%s: got %v, and %d calls: want Transient and none", c.name, err, s.calls.Load())
		case c.says != "" && !strings.Contains(err.Error(), c.says) && !(c.says == "tls" && cut(err)):
			t.Errorf("%s: got %q, want it to say %q", c.name, err, c.says)
		}
	}
}

// cut is how a connection ends that the server refused: the alert that says why
// may be lost.
func cut(err error) bool {
	return strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "broken pipe") || strings.Contains(err.Error(), "EOF")
}

// TestNoTLS sees that neither side does without.
func TestNoTLS(t *testing.T) {
	home := newSite(t, certs.Options{})
	var s served
	node := serveTCP(t, home.issue(certs.Node(testNode)), s.fake())

	var plain Dialer
	if _, err := plain.Backend(node, "local"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a dialer without TLS files: got %v, want Invalid", err)
	}
	conn, err := net.Dial("tcp", node.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1<<10)
	n, _ := conn.Read(answer)
	if n > 0 && answer[0] != 21 { // a TLS alert, or nothing
		t.Errorf("plaintext was answered with %q", answer[:n])
	}
	// TLS 1.2 and no certificate.
	for name, config := range map[string]*tls.Config{
		"TLS 1.2":        {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
		"no certificate": {InsecureSkipVerify: true, NextProtos: []string{"h2"}},
	} {
		conn, err := tls.Dial("tcp", node.Address, config)
		if err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "remote error: tls:") {
			t.Errorf("%s: got %v, want an alert", name, err)
		}
	}
	if s.calls.Load() != 0 {
		t.Error("a call came through")
	}
}

func TestServeNeedsTLS(t *testing.T) {
	home := newSite(t, certs.Options{})
	tcp, err := ParseEndpoint("tcp://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]TLS{
		"no files":        {},
		"files are gone":  {"/nonexistent/a", "/nonexistent/b", "/nonexistent/c"},
		"another's":       home.issue(certs.Node("b")),
		"a controller's":  home.issue(certs.Controller),
		"no CA in its CA": {home.issue(certs.Node(testNode)).CertFile, home.issue(certs.Node(testNode)).KeyFile, filepath.Join(home.dir, "ca.key")},
	} {
		s := newServer(t, ServerOptions{Backends: map[string]backend.Backend{"local": &fake{}}, TLS: files})
		if err := s.Serve(t.Context(), tcp); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
	if _, err := NewServer(ServerOptions{TLS: TLS{CertFile: "x"}}); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(err.Error(), "key file") || !strings.Contains(err.Error(), "CA file") || !strings.Contains(err.Error(), "backends") {
		t.Errorf("half the files: got %v, want Invalid naming all that is missing", err)
	}
}

// TestRotation replaces first certificates, then the authority, under a server
// and a dialer that go on.
func TestRotation(t *testing.T) {
	home := newSite(t, certs.Options{})
	dir := t.TempDir()
	place := func(name string, from TLS) TLS {
		to := TLS{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"), filepath.Join(dir, name+"-ca.crt")}
		copyFile(t, to.CertFile, from.CertFile)
		copyFile(t, to.KeyFile, from.KeyFile)
		copyFile(t, to.CAFile, from.CAFile)
		return to
	}
	server, client := place("server", home.issue(certs.Node(testNode))), place("client", home.issue(certs.Controller))
	var s served
	node := serveTCP(t, server, s.fake())
	d := &Dialer{TLS: client}
	dialWith(t, d, node)
	// try calls over a new connection, from the same files.
	try := func() error {
		d.mu.Lock()
		if l := d.links[node.ID]; l != nil {
			delete(d.links, node.ID)
			_ = l.conn.Close()
		}
		d.mu.Unlock()
		b, err := d.Backend(node, "local")
		if err != nil {
			return err
		}
		_, err = b.Health(t.Context())
		return err
	}
	steps := []struct {
		name string
		do   func()
		fail bool
	}{
		{"at first", func() {}, false},
		{"a half-written client key", func() { write(t, client.KeyFile, []byte("-----BEGIN")) }, false},
		{"a new client key and no certificate yet", func() { copyFile(t, client.KeyFile, home.issue(certs.Controller).KeyFile) }, false},
		{"and its certificate", func() { place("client", home.issue(certs.Controller)) }, false},
		{"a server's certificate is missing", func() { os.Remove(server.CertFile) }, false},
		{"and is there again", func() { place("server", home.issue(certs.Node(testNode))) }, false},
		{"a new authority is believed too", func() {
			a, err := certs.Rotate(certs.Options{Dir: home.dir})
			if err != nil {
				t.Fatal(err)
			}
			home.a = a
			copyFile(t, server.CAFile, filepath.Join(home.dir, "ca.crt"))
			copyFile(t, client.CAFile, filepath.Join(home.dir, "ca.crt"))
		}, false},
		{"the server's is of the new one", func() { place("server", home.issue(certs.Node(testNode))) }, false},
		{"the server believes only the new one", func() { first(t, server.CAFile) }, true},
		{"the client's is of the new one", func() { place("client", home.issue(certs.Controller)) }, false},
		{"the client believes only the new one", func() { first(t, client.CAFile) }, false},
	}
	for _, step := range steps {
		step.do()
		err := try()
		if (err != nil) != step.fail {
			t.Fatalf("%s: got %v, want failure %t", step.name, err, step.fail)
		}
	}
}

// first keeps the first authority of a bundle.
func first(t *testing.T, bundle string) {
	t.Helper()
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(data)
	if len(rest) == 0 {
		t.Fatal("only one authority in the bundle")
	}
	write(t, bundle, pem.EncodeToMemory(block))
}
