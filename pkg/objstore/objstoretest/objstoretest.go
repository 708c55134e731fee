// Package objstoretest states the contract of pkg/objstore as tests that every
// implementation runs:
//
//	func TestContract(t *testing.T) {
//		objstoretest.Run(t, func(t *testing.T) objstore.Store { ... })
//	}
//
// What it cannot see from outside, durability above all, is for an
// implementation's own tests.
package objstoretest

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Run runs the suite. Each call of open returns an empty store, which the suite
// may use from many goroutines until its test ends.
func Run(t *testing.T, open func(t *testing.T) objstore.Store) {
	for name, test := range map[string]func(*testing.T, objstore.Store){
		"Absent":                  testAbsent,
		"Objects":                 testObjects,
		"BytesHaveOneOwner":       testOwnership,
		"Ranges":                  testRanges,
		"CreateKeeps":             testCreateKeeps,
		"Delete":                  testDelete,
		"InvalidKeys":             testInvalidKeys,
		"EndedContext":            testEndedContext,
		"OneWinner":               testOneWinner,
		"WinnersAmongDeleters":    testWinnersAmongDeleters,
		"CreatedWhole":            testCreatedWhole,
		"ReplacedWhole":           testReplacedWhole,
		"List":                    testList,
		"ListOptions":             testListOptions,
		"ListPagesOfMany":         testListPagesOfMany,
		"ListDeletedBetweenPages": testListDeletedBetweenPages,
		"ListWhileChanging":       testListWhileChanging,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func wantKind(t *testing.T, what string, err error, want fault.Kind) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("%s: got error %v, want kind %q", what, err, want)
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func wantBody(t *testing.T, s objstore.Store, key string, want []byte) {
	t.Helper()
	if got, err := s.Get(t.Context(), key); err != nil || !bytes.Equal(got, want) {
		t.Errorf("get %s: got %d bytes %.40q, %v; want %d bytes %.40q", key, len(got), got, err, len(want), want)
	}
}

func wantKeys(t *testing.T, s objstore.Store, want ...string) {
	t.Helper()
	objects, _ := listAll(t, s, objstore.ListOptions{})
	if !slices.Equal(objects, want) {
		t.Errorf("the store holds %q, want %q", objects, want)
	}
}

// listAll reads all pages and returns the keys and the common prefixes. It sees
// that every page keeps to the limit and moves on.
func listAll(t *testing.T, s objstore.Store, o objstore.ListOptions) (keys, prefixes []string) {
	t.Helper()
	for {
		page, err := s.List(t.Context(), o)
		must(t, "list", err)
		if n := len(page.Objects) + len(page.Prefixes); n > o.PageSize() {
			t.Fatalf("a page of %d entries, want at most %d", n, o.PageSize())
		}
		for _, object := range page.Objects {
			keys = append(keys, object.Key)
		}
		prefixes = append(prefixes, page.Prefixes...)
		if page.Next == "" {
			return keys, prefixes
		}
		if page.Next <= o.After {
			t.Fatalf("after %q the next page begins after %q: want progress", o.After, page.Next)
		}
		o.After = page.Next
	}
}

// content is a body that shows where it was torn: its tag, over and over.
func content(tag byte, size int) []byte { return bytes.Repeat([]byte{tag}, size) }

// whole reports a body that is not exactly what content made for some tag.
func whole(body []byte, size int) bool {
	return len(body) == size && bytes.Count(body, body[:1]) == size
}

// ended returns a context that was canceled.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
