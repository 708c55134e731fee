package dir

import (
	"context"
	"iter"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// List returns a page of the objects.
func (s *Store) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	page, err := s.list(ctx, o)
	if err != nil {
		return objstore.Page{}, fault.Wrap(err, "list", o.Prefix)
	}
	return page, nil
}

func (s *Store) list(ctx context.Context, o objstore.ListOptions) (page objstore.Page, err error) {
	if err := o.Validate(); err != nil {
		return page, err
	}
	from := o.Prefix[:strings.LastIndex(o.Prefix, "/")+1]
	last := ""
	for e, err := range s.walk(ctx, from, o) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return page, err
		}
		if len(page.Objects)+len(page.Prefixes) == o.PageSize() {
			page.Next = last
			return page, nil
		}
		if last = e.Key; strings.HasSuffix(e.Key, "/") {
			page.Prefixes = append(page.Prefixes, e.Key)
		} else {
			page.Objects = append(page.Objects, e)
		}
	}
	// Last, since a store that vanishes on the way looks like an empty one.
	if err := s.present(); err != nil {
		return page, err
	}
	return page, ctx.Err()
}

// walk yields the entries of a listing under a folder's prefix, in order: objects,
// and common prefixes as objects whose key ends with the delimiter. An error is
// the last that it yields.
func (s *Store) walk(ctx context.Context, prefix string, o objstore.ListOptions) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		children, err := s.children(ctx, prefix)
		if err != nil {
			yield(objstore.Object{}, err)
			return
		}
		for _, key := range children {
			if strings.HasPrefix(key, o.Prefix) && !s.visit(ctx, key, o, yield) {
				return
			}
		}
	}
}

// visit yields what a child of a folder contributes to a listing, and reports
// whether to go on.
func (s *Store) visit(ctx context.Context, key string, o objstore.ListOptions, yield func(objstore.Object, error) bool) bool {
	isFolder := strings.HasSuffix(key, "/")
	switch {
	case isFolder && o.Delimiter == "":
		if key < o.After && !strings.HasPrefix(o.After, key) {
			return true // all in it comes before After
		}
		for e, err := range s.walk(ctx, key, o) {
			if !yield(e, err) || err != nil {
				return false
			}
		}
		return true
	case key <= o.After:
		return true
	case isFolder:
		return !s.holdsAny(ctx, key) || yield(objstore.Object{Key: key}, nil)
	}
	info, err := os.Lstat(s.path(key))
	if isAbsent(err) {
		return true // deleted meanwhile
	}
	if err != nil {
		yield(objstore.Object{}, trouble(err))
		return false
	}
	return yield(objstore.Object{Key: key, SizeBytes: info.Size()}, nil)
}

// holdsAny reports whether there is an object under a folder's prefix. One that
// cannot be read holds something for all that is known.
func (s *Store) holdsAny(ctx context.Context, prefix string) bool {
	for range s.walk(ctx, prefix, objstore.ListOptions{Prefix: prefix}) { //nolint:errcheck // errcheck takes the sequence for an error
		return true
	}
	return false
}

// children returns the keys in a folder, folders with a slash at the end, in
// ascending order: that of the keys to be listed, since a folder sorts by its
// name and the slash. What is not named like a key is not the store's.
func (s *Store) children(ctx context.Context, prefix string) ([]string, error) {
	entries, err := s.entries(ctx, prefix)
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, entry := range entries {
		key := prefix + entry.Name()
		if objstore.ValidateKey(key) != nil {
			continue
		}
		if entry.IsDir() {
			key += "/"
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, nil
}

// entries reads a folder while nothing in it is replaced.
func (s *Store) entries(ctx context.Context, prefix string) ([]os.DirEntry, error) {
	f, err := s.sys.enter(s.path(prefix))
	if err != nil {
		return nil, trouble(err)
	}
	defer f.Close()
	if err := f.lock(ctx, unix.LOCK_SH); err != nil {
		return nil, trouble(err)
	}
	entries, err := f.names()
	return entries, trouble(err)
}
