package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Store is an object store in a bucket.
type Store struct {
	options     Options
	base        *url.URL
	client      *http.Client
	roleClient  *http.Client
	credentials *credentials.Credentials
	// noBatches is set when the server turned out not to delete many at once.
	noBatches atomic.Bool
}

var _ objstore.Store = (*Store)(nil)

// New returns the store of a bucket. It sends nothing yet. Invalid.
func New(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, fault.Wrap(err, "open bucket", o.Bucket)
	}
	if o.Region == "" {
		o.Region = defaultRegion
	}
	transport, err := o.transport()
	if err != nil {
		return nil, fault.Wrap(err, "open bucket", o.Bucket)
	}
	return &Store{
		options:     o,
		base:        o.base(),
		roleClient:  roleClient(),
		credentials: o.Credentials.provider(),
		client: &http.Client{
			Transport: transport,
			// A redirect is an answer: to follow it would send a signed request
			// where the configuration does not say.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes the connections that are idle. Nothing may use the store any more.
func (s *Store) Close() { s.client.CloseIdleConnections() }

func (o Options) transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fault.New(fault.Invalid, "CA file: %w", err)
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.Invalid, "CA file %s: want certificates in PEM", o.CAFile)
		}
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     config, // and with it HTTP/1.1, whose requests fail one by one
		TLSHandshakeTimeout: 10 * time.Second,
		// What has no deadline of its own does not wait for ever.
		ResponseHeaderTimeout: time.Minute,
		MaxIdleConns:          128,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
	}, nil
}

// request is what is sent. Its key is empty where it is about the bucket.
type request struct {
	method, key string
	query       url.Values
	header      map[string]string
	body        []byte
	// isSmall has the body signed whatever the options say.
	isSmall bool
}

// reply is what came back, whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// maxObjectBytes bounds what a reply may make us hold.
const maxObjectBytes = 1 << 30

// send sends a request once and returns the reply, if it is one of success.
func (s *Store) send(ctx context.Context, r request) (reply, error) {
	keys, err := s.keys(ctx)
	if err != nil {
		return reply{}, err
	}
	sent, err := s.signed(ctx, r, keys)
	if err != nil {
		return reply{}, err
	}
	got, err := s.client.Do(sent)
	if err != nil {
		return reply{}, s.unanswered(ctx, err)
	}
	defer got.Body.Close()
	re := reply{status: got.StatusCode, header: got.Header}
	if got.StatusCode/100 != 2 {
		re.body, _ = io.ReadAll(io.LimitReader(got.Body, maxErrorBytes)) // the status says enough
		return reply{}, s.refused(ctx, r, re, keys)
	}
	re.body, err = readAll(got)
	if err != nil {
		return reply{}, s.unanswered(ctx, err)
	}
	return re, nil
}

func (s *Store) signed(ctx context.Context, r request, keys credentials.Value) (*http.Request, error) {
	u := *s.base
	if r.key != "" {
		u.Path += "/" + s.inBucket(r.key)
	} else {
		u.Path += "/"
	}
	u.RawPath = s3utils.EncodePath(u.Path) // what is signed is what is sent
	u.RawQuery = s3utils.QueryEncode(r.query)
	q, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.header {
		q.Header.Set(name, value)
	}
	q.Header.Set("User-Agent", "holkas")
	q.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	if r.isSmall || s.options.SignPayload || u.Scheme != "https" {
		sum := sha256.Sum256(r.body)
		q.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	}
	return signer.SignV4(*q, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, s.options.Region), nil
}

// inBucket returns a key, or what a key begins with, as the bucket has it.
func (s *Store) inBucket(key string) string {
	if s.options.Prefix == "" {
		return key
	}
	return s.options.Prefix + "/" + key
}

// readAll reads a body whole. A body that ends early is an error.
func readAll(got *http.Response) ([]byte, error) {
	if got.ContentLength > maxObjectBytes {
		return nil, fault.New(fault.Unsupported, "a body of %d bytes: want at most %d", got.ContentLength, maxObjectBytes)
	}
	if got.ContentLength >= 0 {
		body := make([]byte, got.ContentLength)
		if n, err := io.ReadFull(got.Body, body); err != nil {
			return nil, fault.New(fault.Transient, "the body ended after %d of %d bytes: %w", n, len(body), err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(got.Body, maxObjectBytes+1))
	if err == nil && len(body) > maxObjectBytes {
		return nil, fault.New(fault.Unsupported, "a body of more than %d bytes", maxObjectBytes)
	}
	return body, err
}

// unanswered types what went wrong with a request that got no whole reply.
func (s *Store) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if atURL := (*url.Error)(nil); errors.As(err, &atURL) {
		err = atURL.Err // without the URL, which the subject tells in short
	}
	var typed *fault.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &typed):
		return err
	case errors.As(err, &certificate):
		return fault.New(fault.Transient, "%w: its certificate: %w: want one for %s that the CA file, or else the system, vouches for", objstore.ErrRefused, certificate.Err, s.base.Hostname())
	case errors.Is(err, http.ErrSchemeMismatch):
		return fault.New(fault.Transient, "%w: %w: is the endpoint %s one of http?", objstore.ErrRefused, err, s.base.Host)
	}
	return fault.As(fault.Transient, err)
}

func admit(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objstore.ValidateKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}
