package s3

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// checkPage sees that whatever a server lists, a page is what the contract says.
func checkPage(t *testing.T, got listing) {
	t.Helper()
	s := &Store{options: Options{Prefix: "p"}}
	for _, o := range []objstore.ListOptions{{}, {Delimiter: "/"}, {Prefix: "a", After: "a/b", Limit: 2}, {Prefix: "a/", Delimiter: "/", Limit: 1}} {
		page, err := s.page(o, got)
		if err != nil {
			continue
		}
		names := slices.Clone(page.Prefixes)
		for _, object := range page.Objects {
			names = append(names, object.Key)
		}
		if len(names) > o.PageSize() {
			t.Errorf("%+v: %d entries", o, len(names))
		}
		slices.Sort(names)
		for _, name := range names {
			if !strings.HasPrefix(name, o.Prefix) || name <= o.After || (objstore.ListOptions{Prefix: name}).Validate() != nil {
				t.Errorf("%+v: entry %q", o, name)
			}
		}
		if page.Next != "" && page.Next != names[len(names)-1] {
			t.Errorf("%+v: next is %q of %q", o, page.Next, names)
		}
	}
}

// TestForeignKeys has other people's keys among ours, named as no key of ours is.
func TestForeignKeys(t *testing.T) {
	foreign := []string{"pre/.hidden", "pre/a b", "pre/a//b", "pre/ä/x", "pre/z+z", "pre", "other/x", "pre/", "pre-x", "pre/c%2fd", "pre/<&>"}
	ours := []string{"pre/a", "pre/b/c", "pre/d"}
	keys := slices.Sorted(slices.Values(slices.Concat(foreign, ours)))
	s := fake(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		after := max(q.Get("start-after"), unescape(q.Get("continuation-token")))
		fmt.Fprint(w, "<ListBucketResult><EncodingType>url</EncodingType>")
		for _, key := range keys { // one a page
			if key <= after || !strings.HasPrefix(key, q.Get("prefix")) {
				continue
			}
			fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken><Contents><Key>%s</Key><Size>7</Size></Contents></ListBucketResult>",
				url.QueryEscape(key), url.QueryEscape(key))
			return
		}
		fmt.Fprint(w, "<IsTruncated>false</IsTruncated></ListBucketResult>")
	})
	s.options.Prefix = "pre"
	var got []string
	for o := (objstore.ListOptions{}); ; {
		page, err := s.List(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range page.Objects {
			got = append(got, object.Key)
		}
		if o.After = page.Next; o.After == "" {
			break
		}
	}
	if want := []string{"a", "b/c", "d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestBadListings has a server list what no listing may be.
func TestBadListings(t *testing.T) {
	entry := func(key string) string { return "<Contents><Key>" + key + "</Key><Size>1</Size></Contents>" }
	for name, row := range map[string]struct{ body, want string }{
		"out of order":          {entry("b") + entry("a"), "unsupported"},
		"goes on with nothing":  {"<IsTruncated>true</IsTruncated>", "again"},
		"no number":             {"<Contents><Key>a</Key><Size>x</Size></Contents>", "again"},
		"no truth":              {"<IsTruncated>perhaps</IsTruncated>", "again"},
		"goes on with the same": {"<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>", "again"},
	} {
		s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<ListBucketResult>"+row.body+"</ListBucketResult>")
		})
		if page, err := s.List(t.Context(), objstore.ListOptions{}); outcome(err) != row.want {
			t.Errorf("%s: got %v, %v; want %s", name, page, err, row.want)
		}
	}
}

// TestMoreThanAskedFor has a server that ignores how much is wanted.
func TestMoreThanAskedFor(t *testing.T) {
	s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<ListBucketResult><Contents><Key>a</Key></Contents><Contents><Key>c</Key></Contents><CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes></ListBucketResult>")
	})
	page, err := s.List(t.Context(), objstore.ListOptions{Delimiter: "/", Limit: 2})
	if err != nil || page.Next != "b/" || len(page.Objects) != 1 || !slices.Equal(page.Prefixes, []string{"b/"}) {
		t.Errorf("got %+v, %v; want a and b/, to go on behind b/", page, err)
	}
	if page, err := s.List(t.Context(), objstore.ListOptions{Delimiter: "//"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, %v; want Invalid", page, err)
	}
}

// TestOneRequestAPage has a server to which a common prefix is a name like any
// other, so that keys below it come after it: a page is still one request.
func TestOneRequestAPage(t *testing.T) {
	requests := 0
	s := fake(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		after := max(r.URL.Query().Get("start-after"), r.URL.Query().Get("continuation-token"))
		for _, key := range []string{"a/1", "a/2", "b/1", "b/2", "b/3", "c/1"} {
			if key > after {
				fmt.Fprintf(w, "<ListBucketResult><IsTruncated>%t</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", key != "c/1", key)
				fmt.Fprintf(w, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes></ListBucketResult>", key[:2])
				return
			}
		}
		fmt.Fprint(w, "<ListBucketResult></ListBucketResult>")
	})
	for o, want := range map[objstore.ListOptions]string{
		{Delimiter: "/", Limit: 1}:                "a/",
		{Delimiter: "/", Limit: 1, After: "a/"}:   "b/",
		{Delimiter: "/", Limit: 1, After: "a/5"}:  "b/",
		{Delimiter: "/", Limit: 1, After: "b/1/"}: "c/",
	} {
		requests = 0
		if page, err := s.List(t.Context(), o); err != nil || !slices.Equal(page.Prefixes, []string{want}) || requests != 1 {
			t.Errorf("%+v: got %v, %v by %d requests; want %s by 1", o, page, err, requests, want)
		}
	}
}
