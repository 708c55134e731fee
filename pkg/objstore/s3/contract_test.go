package s3

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
)

// contract runs the conformance suite with a bucket for each of its tests.
func contract(t *testing.T, change func(*Options)) {
	objstoretest.Run(t, func(t *testing.T) objstore.Store {
		o := newBucket(t)
		change(&o)
		return open(t, o)
	})
}

var buckets atomic.Int64

func newBucket(t *testing.T) Options {
	t.Helper()
	o := Options{
		Endpoint:    server.Endpoint,
		Region:      s3test.Region,
		Bucket:      fmt.Sprintf("bucket-%d", buckets.Add(1)),
		AllowHTTP:   true,
		Credentials: Credentials{AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey},
	}
	if err := server.Bucket(o.Bucket); err != nil {
		t.Fatal(err)
	}
	return o
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestContract(t *testing.T) { contract(t, func(*Options) {}) }

func TestContractUnderAPrefix(t *testing.T) {
	contract(t, func(o *Options) { o.Prefix = "a/b-c" })
}

// TestContractOverTLS has bodies that are not part of the signature.
func TestContractOverTLS(t *testing.T) {
	target, _ := url.Parse(server.Endpoint)
	front := httptest.NewTLSServer(&httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
		Rewrite: func(r *httputil.ProxyRequest) {
			if r.In.Method == http.MethodPut && r.In.Header.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD" {
				t.Errorf("%s %s: the body is signed over TLS", r.In.Method, r.In.URL.Path)
			}
			r.SetURL(target)
			r.Out.Host = r.In.Host // what was signed
		},
	})
	t.Cleanup(front.Close)
	ca := writeCA(t, front)
	contract(t, func(o *Options) { o.Endpoint, o.CAFile, o.AllowHTTP = front.URL, ca, false })
}

// TestContractByHostName names the bucket in the host.
func TestContractByHostName(t *testing.T) {
	target, _ := url.Parse(server.Endpoint)
	objstoretest.Run(t, func(t *testing.T) objstore.Store {
		o := newBucket(t)
		o.Addressing, o.Endpoint = VirtualHost, "http://"+s3test.HostDomain+":"+target.Port()
		s := open(t, o)
		transport := s.client.Transport.(*http.Transport)
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, o.Bucket+"."+s3test.HostDomain) {
				t.Errorf("dialed %s, want the bucket's host", address)
			}
			return new(net.Dialer).DialContext(ctx, network, target.Host)
		}
		return s
	})
}

func writeCA(t *testing.T, front *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
