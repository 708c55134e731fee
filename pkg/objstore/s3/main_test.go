package s3

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"
	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
)

// started is the real server, once a test wanted it.
var started struct {
	sync.Mutex
	server *s3test.Server
}

func server(t *testing.T) *s3test.Server {
	t.Helper()
	started.Lock()
	defer started.Unlock()
	if started.server == nil {
		s, err := s3test.Start()
		if err != nil {
			t.Fatal(err)
		}
		started.server = s
	}
	return started.server
}

func TestMain(m *testing.M) {
	code := m.Run()
	if started.server != nil {
		started.server.Stop()
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// damaging changes the last byte of what is stored.
type damaging struct{ http.RoundTripper }

func (d damaging) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body[len(body)-1] ^= 1
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return d.RoundTripper.RoundTrip(r)
}

func resign(r *http.Request) *http.Request {
	return signer.SignV4(*r, s3test.AccessKeyID, s3test.SecretAccessKey, "", s3test.Region)
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
