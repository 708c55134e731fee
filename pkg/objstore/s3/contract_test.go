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
	"sync/atomic"
	"testing"

	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
)

// contract runs the conformance suite with a bucket for each of its tests, and with
// retries: the server refuses a creation now and then while another request removes
// the folder that it is to be in (409 ExistingObjectIsDirectory).
func contract(t *testing.T, change func(*Options)) {
	objstoretest.Run(t, func(t *testing.T) objstore.Store {
		o := newBucket(t)
		change(&o)
		s, err := retry.New(open(t, o), retry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

var buckets atomic.Int64

func newBucket(t *testing.T) Options {
	t.Helper()
	o := Options{
		Endpoint:    server(t).Endpoint,
		Region:      s3test.Region,
		Bucket:      fmt.Sprintf("bucket-%d", buckets.Add(1)),
		AllowHTTP:   true,
		Credentials: Credentials{AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey},
	}
	if err := server(t).Bucket(o.Bucket); err != nil {
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

// TestContractOverTLS has bodies that are not part of the signature, and keys
// under a prefix of the bucket.
func TestContractOverTLS(t *testing.T) {
	target, _ := url.Parse(server(t).Endpoint)
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
	contract(t, func(o *Options) { o.Endpoint, o.CAFile, o.AllowHTTP, o.Prefix = front.URL, ca, false, "a/b-c" })
}

// TestByHostName names the bucket in the host, in each kind of request.
func TestByHostName(t *testing.T) {
	target, err := url.Parse(server(t).Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	o := newBucket(t)
	o.Addressing, o.Endpoint = VirtualHost, "http://"+s3test.HostDomain+":"+target.Port()
	s := open(t, o)
	s.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if want := o.Bucket + "." + s3test.HostDomain + ":" + target.Port(); address != want {
			t.Errorf("dialed %s, want %s", address, want)
		}
		return new(net.Dialer).DialContext(ctx, network, target.Host)
	}
	for _, name := range []string{"create", "put", "get", "get range", "list", "delete", "delete 2"} {
		if err := calls[name](t.Context(), s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func writeCA(t *testing.T, front *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
