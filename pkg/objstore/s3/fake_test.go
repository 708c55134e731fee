package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// fake opens a store whose server answers as the handler says.
func fake(t *testing.T, handler http.HandlerFunc) *Store {
	t.Helper()
	front := httptest.NewServer(handler)
	t.Cleanup(front.Close)
	return open(t, Options{
		Endpoint: front.URL, Bucket: "bucket", AllowHTTP: true,
		Credentials: Credentials{AccessKeyID: "key-id", SecretAccessKey: theSecret, SessionToken: theToken},
	})
}

const (
	theSecret = "sEcReT-of-the-test"
	theToken  = "tOkEn-of-the-test"
)

// calls are the methods, by name.
var calls = map[string]func(ctx context.Context, s *Store) error{
	"get":       func(ctx context.Context, s *Store) error { _, err := s.Get(ctx, "a/b"); return err },
	"get range": func(ctx context.Context, s *Store) error { _, err := s.GetRange(ctx, "a/b", 2, 3); return err },
	"put":       func(ctx context.Context, s *Store) error { return s.Put(ctx, "a/b", []byte("body")) },
	"create":    func(ctx context.Context, s *Store) error { return s.Create(ctx, "a/b", []byte("body")) },
	"delete":    func(ctx context.Context, s *Store) error { return s.Delete(ctx, "a/b") },
	"delete 2":  func(ctx context.Context, s *Store) error { return s.Delete(ctx, "a/b", "a/c") },
	"list":      func(ctx context.Context, s *Store) error { _, err := s.List(ctx, objstore.ListOptions{}); return err },
}

func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if code != "" {
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>the message with %s and %s</Message></Error>`, code, theSecret, theToken)
	}
}

// TestErrors has the server answer each status and code to each method.
func TestErrors(t *testing.T) {
	const (
		again   = "again"
		slow    = "slow"
		refused = "refused"
	)
	for _, row := range []struct {
		status int
		code   string
		want   string            // again, slow, refused, or a kind
		but    map[string]string // for some methods
	}{
		{404, "NoSuchKey", again, map[string]string{"get": "not found", "get range": "not found", "delete": "ok"}},
		{404, "NoSuchBucket", refused, nil},
		{404, "", refused, nil}, // a proxy's
		{404, "SomethingElse", refused, nil},
		{412, "PreconditionFailed", again, map[string]string{"create": "exists"}},
		{412, "", refused, nil},
		{409, "ConditionalRequestConflict", again, nil},
		{409, "OperationAborted", again, nil},
		{409, "", again, nil},
		{409, "ObjectParentIsFile", again, nil},
		{409, "ExistingObjectIsDirectory", again, nil},
		{416, "InvalidRange", again, map[string]string{"get range": "out of range"}},
		{400, "BadDigest", again, nil},
		{400, "XAmzContentSHA256Mismatch", again, nil},
		{400, "IncompleteBody", again, nil},
		{400, "RequestTimeout", again, nil},
		{400, "EntityTooLarge", "invalid", nil},
		{400, "InvalidArgument", refused, nil},
		{400, "AuthorizationHeaderMalformed", refused, nil},
		{400, "ExpiredToken", refused, nil},
		{400, "", refused, nil},
		{401, "", refused, nil},
		{403, "AccessDenied", refused, nil},
		{403, "InvalidAccessKeyId", refused, nil},
		{403, "SignatureDoesNotMatch", refused, nil},
		{403, "RequestTimeTooSkewed", refused, nil},
		{403, "QuotaExceeded", refused, nil},
		{403, "InvalidObjectState", refused, nil},
		{403, "", refused, nil},
		{301, "PermanentRedirect", refused, nil},
		{307, "TemporaryRedirect", refused, nil},
		{302, "", refused, nil},
		{408, "", again, nil},
		{425, "", again, nil},
		{429, "", slow, nil},
		{429, "TooManyRequests", slow, nil},
		{500, "InternalError", again, nil},
		{500, "", again, nil},
		{502, "", again, nil},
		{503, "SlowDown", slow, nil},
		{503, "ServiceUnavailable", slow, nil},
		{503, "", slow, nil},
		{504, "", again, nil},
		{507, "", refused, nil},
		{501, "NotImplemented", "unsupported", nil},
		{405, "MethodNotAllowed", "unsupported", nil},
	} {
		s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-9")
			answer(w, row.status, row.code)
		})
		for name, call := range calls {
			want := row.want
			if but, ok := row.but[name]; ok {
				want = but
			}
			err := call(t.Context(), s)
			if got := outcome(err); got != want {
				t.Errorf("%s, %d %q: got %s: %v; want %s", name, row.status, row.code, got, err, want)
			}
			if err == nil {
				continue
			}
			if said := err.Error(); strings.Contains(said, theSecret) || strings.Contains(said, theToken) {
				t.Errorf("%s, %d %q: the error holds a secret: %v", name, row.status, row.code, err)
			} else if !strings.Contains(said, row.code) || !strings.Contains(said, "eu-west-9") || !strings.Contains(said, fmt.Sprint(row.status)) {
				t.Errorf("%s, %d %q: the error does not say what happened: %v", name, row.status, row.code, err)
			}
		}
	}
}

// outcome is an error as the rows above have it.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case !fault.Is(err, fault.Transient):
		return fault.KindOf(err).String()
	case errors.Is(err, objstore.ErrSlowDown):
		return "slow"
	case errors.Is(err, objstore.ErrRefused):
		return "refused"
	}
	return "again"
}

// TestStrangers has something answer that is not S3: nothing it says is taken for
// a success.
func TestStrangers(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"a portal":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html><body>please log in</body></html>") },
		"an empty 200": func(http.ResponseWriter, *http.Request) {},
		"no content":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"an error in a success": func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, "InternalError")
		},
		"a partial answer": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) },
		"another listing": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<ListAllMyBucketsResult></ListAllMyBucketsResult>")
		},
		"cut XML": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<ListBucketResult><Contents>") },
		"a closed connection": func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		},
		"noise": func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(c, "SSH-2.0-OpenSSH\r\n")
				c.Close()
			}
		},
	} {
		s := fake(t, handler)
		for method, call := range calls {
			err := call(t.Context(), s)
			isDeletion := method == "delete" && (name == "no content" || err == nil)
			if !isDeletion && !fault.Is(err, fault.Transient) {
				t.Errorf("%s: %s: got %v, want Transient", name, method, err)
			}
		}
	}
}

func TestUnreachable(t *testing.T) {
	front := httptest.NewServer(http.NotFoundHandler())
	front.Close() // nobody listens there any more
	s := open(t, Options{Endpoint: front.URL, Bucket: "bucket", AllowHTTP: true, Credentials: Credentials{AccessKeyID: "a", SecretAccessKey: "b"}})
	for name, call := range calls {
		if err := call(t.Context(), s); outcome(err) != "again" || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: got %v, want Transient with the cause", name, err)
		}
	}
}

// TestBodies has the server send bodies that are not what they are said to be.
func TestBodies(t *testing.T) {
	const object = "0123456789"
	sum := checksum([]byte(object))
	whole := func(header map[string]string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"e"`)
			for name, value := range header {
				w.Header().Set(name, value)
			}
			_, _ = io.WriteString(w, body)
		}
	}
	part := func(contentRange, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"e"`)
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, row := range []struct {
		name    string
		handler http.HandlerFunc
		method  string // get, or get range of 3 from 2
		want    string // a body, or an outcome
	}{
		{"right", whole(map[string]string{checksumHeader: sum}, object), "get", object},
		{"no checksum", whole(nil, object), "get", object},
		{"a checksum of parts", whole(map[string]string{checksumHeader: sum + "-3"}, object), "get", object},
		{"a bit is wrong", whole(map[string]string{checksumHeader: sum}, "0123456788"), "get", "corrupt"},
		{"cut off", whole(map[string]string{"Content-Length": "11", checksumHeader: sum}, object), "get", "again"},
		{"cut off without a checksum", whole(map[string]string{"Content-Length": "11"}, object), "get", "again"},
		{"a part unasked for", part("bytes 0-2/10", "012"), "get", "refused"},
		{"the part", part("bytes 2-4/10", "234"), "get range", "234"},
		{"the part up to the end", part("bytes 2-3/4", "23"), "get range", "23"},
		{"another part", part("bytes 3-5/10", "345"), "get range", "again"},
		{"a shorter part", part("bytes 2-3/10", "23"), "get range", "again"},
		{"fewer bytes than said", part("bytes 2-4/10", "23"), "get range", "again"},
		{"more bytes than said", part("bytes 2-4/10", "2345"), "get range", "again"},
		{"an unknown size", part("bytes 2-4/*", "234"), "get range", "refused"},
		{"no range at all", part("", "234"), "get range", "refused"},
		{"the whole", whole(map[string]string{checksumHeader: sum}, object), "get range", "234"},
		{"the whole, wrong", whole(map[string]string{checksumHeader: sum}, "0123456788"), "get range", "corrupt"},
		{"the whole is too short", whole(nil, "01"), "get range", "out of range"},
		{"the whole is empty", whole(nil, ""), "get range", "out of range"},
		{"the part is beyond the end", part("bytes 2-4/2", ""), "get range", "out of range"},
	} {
		s := fake(t, row.handler)
		var got []byte
		var err error
		if row.method == "get" {
			got, err = s.Get(t.Context(), "a/b")
		} else {
			got, err = s.GetRange(t.Context(), "a/b", 2, 3)
		}
		told := string(got)
		if err != nil {
			told = outcome(err)
		}
		if told != row.want || err != nil && got != nil {
			t.Errorf("%s: got %q, %v; want %s", row.name, got, err, row.want)
		}
	}
}

// TestStoredOtherwise has the server store what we did not send.
func TestStoredOtherwise(t *testing.T) {
	s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"e"`)
		w.Header().Set(checksumHeader, checksum([]byte("other")))
	})
	for _, name := range []string{"put", "create"} {
		if err := calls[name](t.Context(), s); outcome(err) != "again" {
			t.Errorf("%s: got %v, want Transient", name, err)
		}
	}
}

// TestOneRequest has each method send one request, whatever the answer: retries
// are not its own.
func TestOneRequest(t *testing.T) {
	for _, status := range []int{500, 503, 429, 408, 301, 307, 403, 409} {
		for name, call := range calls {
			requests := 0
			s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
				requests++
				w.Header().Set("Location", "/elsewhere")
				answer(w, status, "")
			})
			began := time.Now()
			if err := call(t.Context(), s); err == nil || requests != 1 || time.Since(began) > 10*time.Second {
				t.Errorf("%s, %d: %d requests, %v; want 1 and an error", name, status, requests, err)
			}
		}
	}
}

// TestSlowDrip has a context end while a body drips, or a header never comes.
func TestSlowDrip(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"a body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"e"`)
			w.Header().Set("Content-Length", "1000000")
			drip := time.NewTicker(5 * time.Millisecond)
			defer drip.Stop()
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte("x"))
				w.(http.Flusher).Flush()
				<-drip.C
			}
		},
		"no header": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
	} {
		s := fake(t, handler)
		for method, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			began := time.Now()
			if err := call(ctx, s); !fault.Is(err, fault.Deadline) || time.Since(began) > 10*time.Second {
				t.Errorf("%s: %s: got %v after %s, want Deadline", name, method, err, time.Since(began))
			}
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			if err := call(ctx, s); !fault.Is(err, fault.Canceled) {
				t.Errorf("%s: %s: got %v, want Canceled", name, method, err)
			}
		}
	}
}
