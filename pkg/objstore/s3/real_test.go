package s3

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
)

func credentialsOf(secret, token string) credentials.Value {
	return credentials.Value{SecretAccessKey: secret, SessionToken: token}
}

// TestAbsentBucket: an absent bucket never looks like an absent object, or empty.
func TestAbsentBucket(t *testing.T) {
	o := newBucket(t)
	if err := os.Remove(server(t).Folder(o.Bucket)); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	for name, call := range calls {
		if err := call(t.Context(), s); outcome(err) != "refused" || !strings.Contains(err.Error(), "NoSuchBucket") {
			t.Errorf("%s: got %v, want Transient, refused, with NoSuchBucket", name, err)
		}
	}
}

// TestWrongKeys signs with what the server does not know.
func TestWrongKeys(t *testing.T) {
	for want, c := range map[string]Credentials{
		"SignatureDoesNotMatch": {AccessKeyID: s3test.AccessKeyID, SecretAccessKey: "wrong-secret"},
		"access key id that":    {AccessKeyID: "nobody", SecretAccessKey: s3test.SecretAccessKey},
	} {
		o := newBucket(t)
		o.Credentials = c
		s := open(t, o)
		for name, call := range calls {
			err := call(t.Context(), s)
			if outcome(err) != "refused" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), c.SecretAccessKey) {
				t.Errorf("%s: got %v, want Transient, refused, with %s", name, err, want)
			}
		}
	}
}

// TestRotatedKeys has the Secret in a folder change to the right keys: a retry
// succeeds, without a restart.
func TestRotatedKeys(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "AWS_ACCESS_KEY_ID"), s3test.AccessKeyID)
	write(t, filepath.Join(folder, "AWS_SECRET_ACCESS_KEY"), "old-secret")
	o := newBucket(t)
	o.Credentials = Credentials{Folder: folder}
	s := open(t, o)
	if err := s.Put(t.Context(), "a", nil); outcome(err) != "refused" {
		t.Fatalf("got %v, want refused", err)
	}
	if _, err := s.keys(t.Context()); err != nil { // the old ones, as if used a moment ago
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "AWS_SECRET_ACCESS_KEY"), s3test.SecretAccessKey)
	again, err := retry.New(s, retry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Put(t.Context(), "a", nil); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
}

// TestProbe has a real server be found fit, also without and with retries.
func TestProbe(t *testing.T) {
	s := open(t, newBucket(t))
	again, err := retry.New(s, retry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []objstore.Store{s, again} {
		if err := objstore.Probe(t.Context(), store, "probe/"); err != nil {
			t.Error(err)
		}
	}
	if page, err := s.List(t.Context(), objstore.ListOptions{}); err != nil || len(page.Objects) != 0 {
		t.Errorf("left behind: %v, %v", page.Objects, err)
	}
}

// TestProbeOfAStoreWithoutConditions has a server that takes If-None-Match and
// does not apply it be refused by name.
func TestProbeOfAStoreWithoutConditions(t *testing.T) {
	s := open(t, newBucket(t))
	s.client.Transport = deaf{s.client.Transport}
	err := objstore.Probe(t.Context(), s, "probe/")
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "16 of 16 concurrent creations") {
		t.Errorf("got %v, want Unsupported with what it did", err)
	}
}

// deaf loses the condition on its way, as some servers do. That it is unsigned
// then does not matter: the signature is made anew without it.
type deaf struct{ http.RoundTripper }

func (d deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("If-None-Match") == "" {
		return d.RoundTripper.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.Header.Del("If-None-Match")
	r.Header.Del("Authorization")
	return d.RoundTripper.RoundTrip(resign(r))
}

// TestDamagedOnTheWay changes a body after it was signed: the server refuses it by
// its checksum, and stores nothing.
func TestDamagedOnTheWay(t *testing.T) {
	o := newBucket(t)
	s := open(t, o)
	for name, call := range map[string]func(key string) error{
		"put":    func(key string) error { return s.Put(t.Context(), key, []byte("body")) },
		"create": func(key string) error { return s.Create(t.Context(), key, []byte("body")) },
	} {
		inner := s.client.Transport
		s.client.Transport = damaging{inner}
		err := call(name)
		s.client.Transport = inner
		if outcome(err) != "again" {
			t.Errorf("%s: got %v, want Transient", name, err)
		}
		if _, err := s.Get(t.Context(), name); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: stored: %v", name, err)
		}
	}
}

// TestDamagedInTheStore flips a bit of a stored object.
func TestDamagedInTheStore(t *testing.T) {
	o := newBucket(t)
	s := open(t, o)
	if err := s.Put(t.Context(), "a", []byte("body")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(server(t).Folder(o.Bucket), "a"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{'b' ^ 1}, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if body, err := s.Get(t.Context(), "a"); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "get a: its 4 bytes have CRC-32C") {
		t.Errorf("got %q, %v; want Corrupt with the object", body, err)
	}
}

func TestCertificates(t *testing.T) {
	front := httptest.NewUnstartedServer(http.NotFoundHandler())
	front.Config.ErrorLog = quiet()
	front.StartTLS()
	defer front.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	keys := Credentials{AccessKeyID: "a", SecretAccessKey: "b"}
	for name, row := range map[string]struct {
		endpoint, want string
	}{
		"an unknown certificate": {front.URL, "want one for 127.0.0.1"},
		"no TLS there":           {strings.Replace(plain.URL, "http:", "https:", 1), "is the endpoint"},
	} {
		s := open(t, Options{Endpoint: row.endpoint, Bucket: "bucket", Credentials: keys})
		if err := s.Put(t.Context(), "a", nil); outcome(err) != "refused" || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want Transient, refused, with %q", name, err, row.want)
		}
	}
}
