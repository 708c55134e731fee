package objstoretest

import (
	"math"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

func testAbsent(t *testing.T, s objstore.Store) {
	ctx := t.Context()
	must(t, "create", s.Create(ctx, "a/b", nil))
	for _, key := range []string{"a", "b", "a/b/c", "a/c", "a-"} {
		_, err := s.Get(ctx, key)
		wantKind(t, "get "+key, err, fault.NotFound)
		_, err = s.GetRange(ctx, key, 0, 1)
		wantKind(t, "get range of "+key, err, fault.NotFound)
	}
}

func testObjects(t *testing.T, s objstore.Store) {
	bodies := map[string][]byte{
		"empty":                 {},
		"a":                     []byte("a"),
		"a-b":                   []byte("beside a/b"),
		"b/c/d/e/f/g":           []byte("deep"),
		"b/c-d":                 []byte("beside b/c/"),
		"zeros":                 make([]byte, 5000),
		"with=every._-Kind/0_1": {0, 1, 255, '\n'},
		"large":                 content('l', 9<<20+17),
		strings.Repeat("k", 128) + "/" + strings.Repeat("l", 128) + "/" + strings.Repeat("m", 128) + "/" + strings.Repeat("n", 125): []byte("longest"),
	}
	for key, body := range bodies {
		must(t, "create "+key, s.Create(t.Context(), key, body))
	}
	for key, body := range bodies {
		wantBody(t, s, key, body)
	}
	for key := range bodies {
		body := []byte("now " + key)
		must(t, "put "+key, s.Put(t.Context(), key, body))
		wantBody(t, s, key, body)
	}
}

func testOwnership(t *testing.T, s objstore.Store) {
	body := []byte("as given")
	must(t, "create", s.Create(t.Context(), "created", body))
	must(t, "put", s.Put(t.Context(), "put", body))
	clear(body)
	for _, key := range []string{"created", "put"} {
		got, err := s.Get(t.Context(), key)
		must(t, "get", err)
		clear(got)
		got, err = s.GetRange(t.Context(), key, 0, 8)
		must(t, "get range", err)
		clear(got)
		_ = append(got[:0], "overwritten"...)
		wantBody(t, s, key, []byte("as given"))
	}
}

func testRanges(t *testing.T, s objstore.Store) {
	must(t, "create", s.Create(t.Context(), "digits", []byte("0123456789")))
	must(t, "create", s.Create(t.Context(), "empty", nil))
	for _, row := range []struct {
		key            string
		offset, length int64
		want           string
		kind           fault.Kind // if want is empty
	}{
		{"digits", 0, 10, "0123456789", 0},
		{"digits", 0, 1, "0", 0},
		{"digits", 9, 1, "9", 0},
		{"digits", 3, 4, "3456", 0},
		{"digits", 8, 100, "89", 0},
		{"digits", 1, math.MaxInt64, "123456789", 0},
		{"digits", 10, 1, "", fault.OutOfRange},
		{"digits", math.MaxInt64, math.MaxInt64, "", fault.OutOfRange},
		{"empty", 0, 1, "", fault.OutOfRange},
		{"digits", -1, 1, "", fault.Invalid},
		{"digits", 0, 0, "", fault.Invalid},
		{"digits", 0, -1, "", fault.Invalid},
		{"absent", 0, 1, "", fault.NotFound},
	} {
		got, err := s.GetRange(t.Context(), row.key, row.offset, row.length)
		if string(got) != row.want || (row.want != "") != (err == nil) || err != nil && fault.KindOf(err) != row.kind {
			t.Errorf("%s, %d from %d: got %q, %v; want %q or kind %q", row.key, row.length, row.offset, got, err, row.want, row.kind)
		}
	}
}

func testCreateKeeps(t *testing.T, s objstore.Store) {
	must(t, "create", s.Create(t.Context(), "a/b", []byte("first")))
	wantKind(t, "create again", s.Create(t.Context(), "a/b", []byte("second")), fault.Exists)
	wantBody(t, s, "a/b", []byte("first"))
	must(t, "put", s.Put(t.Context(), "a/b", []byte("third")))
	wantKind(t, "create after put", s.Create(t.Context(), "a/b", nil), fault.Exists)
	wantBody(t, s, "a/b", []byte("third"))
	must(t, "delete", s.Delete(t.Context(), "a/b"))
	must(t, "create after delete", s.Create(t.Context(), "a/b", []byte("fourth")))
	wantBody(t, s, "a/b", []byte("fourth"))
}

func testDelete(t *testing.T, s objstore.Store) {
	ctx := t.Context()
	for _, key := range []string{"a/b/c", "a/b/d", "a/b-c", "e"} {
		must(t, "create", s.Create(ctx, key, []byte(key)))
	}
	must(t, "delete nothing", s.Delete(ctx))
	must(t, "delete what is absent", s.Delete(ctx, "x", "a", "a/b", "a/b/c/d", "x/y/z"))
	wantKeys(t, s, "a/b-c", "a/b/c", "a/b/d", "e")
	wantKind(t, "delete an invalid key", s.Delete(ctx, "e", "../e"), fault.Invalid)
	wantKeys(t, s, "a/b-c", "a/b/c", "a/b/d", "e")
	must(t, "delete several", s.Delete(ctx, "a/b/c", "absent", "a/b/d", "e"))
	wantKeys(t, s, "a/b-c")
	must(t, "delete again", s.Delete(ctx, "a/b/c"))
	must(t, "create where keys began", s.Create(ctx, "a/b", nil))
	wantKeys(t, s, "a/b", "a/b-c")
}

func testInvalidKeys(t *testing.T, s objstore.Store) {
	ctx := t.Context()
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", ".tmp/a", "a/.b", "a b", "a\\b", "a\nb",
		"a\x00b", "ä", "a+b", "a:b", "a%2fb", "*", strings.Repeat("a", 129), strings.Repeat("a/", 256) + "a",
	} {
		_, err := s.Get(ctx, key)
		wantKind(t, "get "+key, err, fault.Invalid)
		_, err = s.GetRange(ctx, key, 0, 1)
		wantKind(t, "get range of "+key, err, fault.Invalid)
		wantKind(t, "put "+key, s.Put(ctx, key, nil), fault.Invalid)
		wantKind(t, "create "+key, s.Create(ctx, key, nil), fault.Invalid)
		wantKind(t, "delete "+key, s.Delete(ctx, key), fault.Invalid)
	}
	wantKeys(t, s)
}

func testEndedContext(t *testing.T, s objstore.Store) {
	must(t, "create", s.Create(t.Context(), "a", []byte("1")))
	ctx := ended(t)
	_, err := s.Get(ctx, "a")
	wantKind(t, "get", err, fault.Canceled)
	_, err = s.GetRange(ctx, "a", 0, 1)
	wantKind(t, "get range", err, fault.Canceled)
	_, err = s.List(ctx, objstore.ListOptions{})
	wantKind(t, "list", err, fault.Canceled)
	wantKind(t, "put", s.Put(ctx, "a", nil), fault.Canceled)
	wantKind(t, "create", s.Create(ctx, "b", nil), fault.Canceled)
	wantKind(t, "delete", s.Delete(ctx, "a"), fault.Canceled)
	wantKeys(t, s, "a")
	wantBody(t, s, "a", []byte("1"))
}
