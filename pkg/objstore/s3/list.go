package s3

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// beyond sorts after every character of a key.
const beyond = "~"

// List returns a page of the objects.
func (s *Store) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	page, err := s.list(ctx, o)
	if err != nil {
		return objstore.Page{}, fault.Wrap(err, "list", o.Prefix)
	}
	return page, nil
}

func (s *Store) list(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	if err := o.Validate(); err != nil {
		return objstore.Page{}, err
	}
	if err := admit(ctx); err != nil {
		return objstore.Page{}, err
	}
	query := s.query(o)
	for {
		re, err := s.send(ctx, request{method: http.MethodGet, query: query})
		if err != nil {
			return objstore.Page{}, err
		}
		got, err := parseListing(re.body)
		if err != nil {
			return objstore.Page{}, err
		}
		page, err := s.page(o, got)
		// A page may hold nothing for us: other people's keys, or none at all.
		if err != nil || !got.IsTruncated || page.Next != "" {
			return page, err
		}
		if got.NextContinuationToken == "" || got.NextContinuationToken == query.Get("continuation-token") {
			return page, fault.New(fault.Transient, "a page that is not the last has nothing to go on with")
		}
		query.Set("continuation-token", got.NextContinuationToken)
	}
}

func (s *Store) query(o objstore.ListOptions) url.Values {
	query := url.Values{
		"list-type":     {"2"},
		"encoding-type": {"url"},
		"prefix":        {s.inBucket(o.Prefix)},
		"max-keys":      {strconv.Itoa(o.PageSize())},
	}
	if o.Delimiter != "" {
		query.Set("delimiter", o.Delimiter)
	}
	if after := startAfter(o); after > o.Prefix {
		query.Set("start-after", s.inBucket(after))
	}
	return query
}

// startAfter returns the name behind which a server begins. Servers differ in
// what a common prefix as such a name means; so one is passed by whole.
func startAfter(o objstore.ListOptions) string {
	rest, ok := strings.CutPrefix(o.After, o.Prefix)
	if i := strings.Index(rest, "/"); ok && i >= 0 && o.Delimiter != "" {
		return o.Prefix + rest[:i+1] + beyond
	}
	return o.After
}

// listing is a page as the server has it.
type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	EncodingType          string
	IsTruncated           bool
	NextContinuationToken string
	Contents              []struct {
		Key  string
		Size int64
	}
	CommonPrefixes []struct{ Prefix string }
}

func parseListing(body []byte) (listing, error) {
	var l listing
	if err := xml.Unmarshal(body, &l); err != nil {
		return l, fault.New(fault.Transient, "unreadable listing: %w", err)
	}
	if l.EncodingType == "" {
		return l, nil
	}
	for i := range l.Contents {
		l.Contents[i].Key = unescape(l.Contents[i].Key)
	}
	for i := range l.CommonPrefixes {
		l.CommonPrefixes[i].Prefix = unescape(l.CommonPrefixes[i].Prefix)
	}
	return l, nil
}

// unescape returns a name without its escapes. One that has none of ours stays:
// it is no key of ours then.
func unescape(name string) string {
	if plain, err := url.QueryUnescape(name); err == nil {
		return plain
	}
	return name
}

// page picks what belongs to the store and was asked for. What is not named like
// a key is somebody else's.
func (s *Store) page(o objstore.ListOptions, got listing) (page objstore.Page, err error) {
	entries, err := s.entries(o, got)
	if err != nil {
		return page, err
	}
	isCut := len(entries) > o.PageSize()
	entries = entries[:min(len(entries), o.PageSize())]
	for _, e := range entries {
		if strings.HasSuffix(e.Key, "/") {
			page.Prefixes = append(page.Prefixes, e.Key)
		} else {
			page.Objects = append(page.Objects, e)
		}
	}
	if len(entries) > 0 && (isCut || got.IsTruncated) {
		page.Next = entries[len(entries)-1].Key
	}
	return page, nil
}

// entries returns the entries of a page in order, a common prefix as an object
// whose key ends with the delimiter.
func (s *Store) entries(o objstore.ListOptions, got listing) (entries []objstore.Object, err error) {
	names := make([]objstore.Object, 0, len(got.Contents)+len(got.CommonPrefixes))
	for _, c := range got.Contents {
		names = append(names, objstore.Object{Key: c.Key, SizeBytes: c.Size})
	}
	byKey := func(a, b objstore.Object) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(names, byKey) {
		return nil, fault.New(fault.Unsupported, "the server lists keys out of order: want one that lists them in ascending order")
	}
	for _, p := range got.CommonPrefixes {
		names = append(names, objstore.Object{Key: p.Prefix})
	}
	slices.SortFunc(names, byKey)
	for _, e := range names {
		key, ok := strings.CutPrefix(e.Key, s.inBucket(""))
		isFolded := strings.HasSuffix(key, "/") && o.Delimiter != ""
		isOurs := objstore.ValidateKey(key) == nil || isFolded && objstore.ValidateKey(key+"a") == nil
		if ok && isOurs && strings.HasPrefix(key, o.Prefix) && key > o.After {
			entries = append(entries, objstore.Object{Key: key, SizeBytes: e.SizeBytes})
		}
	}
	return entries, nil
}
