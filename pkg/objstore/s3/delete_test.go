package s3

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holkas-io/holkas/pkg/objstore"
)

// deleter answers a batch with what row says for each key.
func deleter(say func(key string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var d deletion
		body, _ := io.ReadAll(r.Body)
		if err := xml.Unmarshal(body, &d); err != nil || r.Header.Get("Content-Md5") == "" {
			answer(w, 400, "MalformedXML")
			return
		}
		fmt.Fprint(w, "<DeleteResult>")
		for _, o := range d.Objects {
			fmt.Fprint(w, say(o.Key))
		}
		fmt.Fprint(w, "</DeleteResult>")
	}
}

func gone(key string) string { return "<Deleted><Key>" + key + "</Key></Deleted>" }

// TestBatch has a server answer for each key of a batch.
func TestBatch(t *testing.T) {
	failed := func(code string) func(string) string {
		return func(key string) string {
			if key != "b" {
				return gone(key)
			}
			return "<Error><Key>b</Key><Code>" + code + "</Code><Message>why</Message></Error>"
		}
	}
	for name, row := range map[string]struct {
		say  func(key string) string
		want string
	}{
		"all gone":       {gone, "ok"},
		"one was absent": {failed("NoSuchKey"), "ok"},
		"one failed":     {failed("InternalError"), "again"},
		"one was denied": {failed("AccessDenied"), "refused"},
		"one is slow":    {failed("SlowDown"), "slow"},
		"one is strange": {failed("What"), "again"},
		"one may not":    {failed("NotImplemented"), "again"},
		"nothing said":   {func(string) string { return "" }, "again"},
		"one unsaid": {func(key string) string {
			if key == "c" {
				return ""
			}
			return gone(key)
		}, "again"},
	} {
		s := fake(t, deleter(row.say))
		if err := s.Delete(t.Context(), "a", "b", "c"); outcome(err) != row.want {
			t.Errorf("%s: got %v, want %s", name, err, row.want)
		}
	}
}

// TestNoBatches has a server that does not delete many at once be asked for one
// after another, and once only for many.
func TestNoBatches(t *testing.T) {
	for _, row := range []struct {
		status int
		code   string
	}{{501, "NotImplemented"}, {405, "MethodNotAllowed"}, {501, ""}} {
		var batches, singles atomic.Int64
		s := fake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				batches.Add(1)
				answer(w, row.status, row.code)
				return
			}
			singles.Add(1)
			if strings.HasSuffix(r.URL.Path, "/bad") {
				answer(w, 500, "InternalError")
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
		var keys []string
		for i := range 50 {
			keys = append(keys, fmt.Sprintf("key/%d", i))
		}
		if err := s.Delete(t.Context(), keys...); err != nil || singles.Load() != 50 {
			t.Errorf("%d %s: %v, %d of 50 asked for", row.status, row.code, err, singles.Load())
		}
		if err := s.Delete(t.Context(), append(keys, "key/bad")...); outcome(err) != "again" || !strings.Contains(err.Error(), "key/bad") {
			t.Errorf("%d %s: got %v, want Transient with the key", row.status, row.code, err)
		}
		if batches.Load() != 1 {
			t.Errorf("%d %s: asked for many at once %d times, want 1", row.status, row.code, batches.Load())
		}
	}
}

// TestDeleteManyForReal deletes more than a batch from the real server.
func TestDeleteManyForReal(t *testing.T) {
	s := open(t, newBucket(t))
	var keys []string
	for i := range maxBatch + 3 {
		keys = append(keys, fmt.Sprintf("k/%04d", i))
	}
	for _, key := range keys[:3] {
		if err := s.Create(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Create(t.Context(), keys[maxBatch+1], nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	if page, err := s.List(t.Context(), objstore.ListOptions{}); err != nil || len(page.Objects) != 0 {
		t.Errorf("left: %v, %v", page.Objects, err)
	}
}
