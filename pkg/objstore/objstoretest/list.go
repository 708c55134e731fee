package objstoretest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// awkward are keys whose order is not that of a walk through folders: '-' and
// '.' come before '/', digits and letters after it.
var awkward = []string{
	"-", "0", "A/b", "_=", "a", "a-b", "a.b", "a0", "b-/x", "b/-", "b/0/x", "b/0/y", "b/0-", "b/0.x/y", "b/00", "b/1",
	"b=", "b.c/d", "c/d/e/f", "c/d/e-f", "c/d-e/f", "c/dd/e", "d-d", "d.d/d", "d/d",
}

func testList(t *testing.T, s objstore.Store) {
	for i, key := range awkward {
		must(t, "create "+key, s.Create(t.Context(), key, content('x', i)))
	}
	afters := append([]string{"", "a-", "b", "b/", "b/0/", "b/0", "b/0.", "c/", "c/d/", "zz", "b/0/z"}, awkward...)
	for _, prefix := range []string{"", "a", "b", "b/", "b/0", "b/0/", "b/0/x", "b/0/x/", "b/0/xx", "c", "c/d", "c/d/", "d", "d/", "x", "-", "b-"} {
		for _, after := range afters {
			for _, delimiter := range []string{"", "/"} {
				for _, limit := range []int{0, 1, 2, 3, 1000, 5000} {
					o := objstore.ListOptions{Prefix: prefix, After: after, Delimiter: delimiter, Limit: limit}
					wantKeyList, wantPrefixes := expected(o)
					keys, prefixes := listAll(t, s, o)
					if !slices.Equal(keys, wantKeyList) || !slices.Equal(prefixes, wantPrefixes) {
						t.Fatalf("%+v:\n got %q, %q\nwant %q, %q", o, keys, prefixes, wantKeyList, wantPrefixes)
					}
				}
			}
		}
	}
	page, err := s.List(t.Context(), objstore.ListOptions{})
	must(t, "list", err)
	for _, object := range page.Objects {
		if want := int64(slices.Index(awkward, object.Key)); object.SizeBytes != want {
			t.Errorf("%s: %d bytes listed, want %d", object.Key, object.SizeBytes, want)
		}
	}
}

// expected is the contract of List in its plainest form.
func expected(o objstore.ListOptions) (keys, prefixes []string) {
	for _, key := range slices.Sorted(slices.Values(awkward)) {
		rest, ok := strings.CutPrefix(key, o.Prefix)
		if !ok {
			continue
		}
		folded, _, isFolded := strings.Cut(rest, "/")
		if isFolded = isFolded && o.Delimiter != ""; !isFolded && key > o.After {
			keys = append(keys, key)
		}
		if prefix := o.Prefix + folded + "/"; isFolded && prefix > o.After && !slices.Contains(prefixes, prefix) {
			prefixes = append(prefixes, prefix)
		}
	}
	return keys, prefixes
}

func testListOptions(t *testing.T, s objstore.Store) {
	must(t, "create", s.Create(t.Context(), "a", nil))
	for _, o := range []objstore.ListOptions{
		{Limit: -1}, {Delimiter: "-"}, {Delimiter: "//"},
		{Prefix: "/"}, {Prefix: "../"}, {Prefix: "a//"}, {Prefix: "."}, {Prefix: "a/."}, {Prefix: "a b"}, {Prefix: strings.Repeat("a", 513)},
		{After: "/"}, {After: "a\xff"}, {After: ".tmp/"}, {After: "a//b"},
	} {
		_, err := s.List(t.Context(), o)
		wantKind(t, fmt.Sprintf("list %+v", o), err, fault.Invalid)
	}
}

func testListPagesOfMany(t *testing.T, s objstore.Store) {
	var want []string
	for i := range objstore.MaxPage + 5 {
		key := fmt.Sprintf("many/%05d", i)
		want = append(want, key)
		must(t, "put", s.Put(t.Context(), key, nil))
	}
	if keys, _ := listAll(t, s, objstore.ListOptions{}); !slices.Equal(keys, want) {
		t.Errorf("got %d keys, want %d in order", len(keys), len(want))
	}
}

func testListDeletedBetweenPages(t *testing.T, s objstore.Store) {
	for i := range 20 {
		must(t, "create", s.Create(t.Context(), fmt.Sprintf("p/%02d/object", i), nil))
	}
	o := objstore.ListOptions{Prefix: "p/", Delimiter: "/", Limit: 3}
	var seen []string
	for {
		page, err := s.List(t.Context(), o)
		must(t, "list", err)
		seen = append(seen, page.Prefixes...)
		for _, prefix := range page.Prefixes { // the very place to go on from goes
			must(t, "delete", s.Delete(t.Context(), prefix+"object"))
		}
		if o.After = page.Next; o.After == "" {
			break
		}
	}
	if len(seen) != 20 || !slices.IsSorted(seen) || len(slices.Compact(seen)) != 20 {
		t.Errorf("seen %q, want 20 common prefixes, each once", seen)
	}
	wantKeys(t, s)
}

// testListWhileChanging sees that what does not change is listed exactly once,
// whatever happens around it.
func testListWhileChanging(t *testing.T, s objstore.Store) {
	var want []string
	for i := range 40 {
		key := fmt.Sprintf("l/%02d/stays", i)
		want = append(want, key)
		must(t, "create", s.Create(t.Context(), key, nil))
	}
	stop := watch(t, func() bool {
		keys, _ := listAll(t, s, objstore.ListOptions{Prefix: "l/", Limit: 7})
		keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasSuffix(key, "/stays") })
		if !slices.Equal(keys, want) {
			t.Errorf("got %q, want %q", keys, want)
		}
		return false
	})
	for round := range 4 {
		for i := range 40 {
			key := fmt.Sprintf("l/%02d/%d", (i*7)%40, round)
			must(t, "create", s.Create(t.Context(), key, nil))
			if i%2 == 0 {
				must(t, "delete", s.Delete(t.Context(), key))
			}
		}
	}
	stop()
}
