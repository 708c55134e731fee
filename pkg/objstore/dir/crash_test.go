package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// step is one operation of a history, and what the store holds by its word: a key
// maps to every body that it may have, "" being none.
type step struct {
	op, key, body string
}

var history = []step{
	{"create", "a/b/c/1", "one"},
	{"create", "a/b/c/2", "two"},
	{"create", "a/b/c/1", "other one"},
	{"create", "root", "at the root"},
	{"put", "a/b/c/1", "one, replaced"},
	{"put", "p/new", "put"},
	{"delete", "a/b/c/2", ""},
	{"delete", "a/b/c/1", ""},
	{"create", "a/b/c/1", "one again"},
	{"delete", "p/new", ""},
	{"create", "a/x/1", "beside"},
}

// run makes an operation and narrows or widens what its key may hold.
func (h step) run(ctx context.Context, s *Store, may map[string][]string) error {
	before := may[h.key]
	if before == nil {
		before = []string{""}
	}
	var err error
	switch h.op {
	case "create":
		if err = s.Create(ctx, h.key, []byte(h.body)); fault.Is(err, fault.Exists) {
			return nil
		}
	case "put":
		err = s.Put(ctx, h.key, []byte(h.body))
	case "delete":
		err = s.Delete(ctx, h.key)
	}
	may[h.key] = []string{h.body}
	if err != nil {
		may[h.key] = append(may[h.key], before...)
	}
	return err
}

// TestPowerLossAtEveryStep loses power at each call in turn, and after the last:
// what was acknowledged is there, what was under way is there whole or not at
// all, and the store goes on.
func TestPowerLossAtEveryStep(t *testing.T) {
	for k := 1; ; k++ {
		if k > 1000 {
			t.Fatal("the history never ran through")
		}
		d := newDisk(t.TempDir())
		d.failAt, d.dead = k, true
		may, finished := runHistory(t, d)
		for _, l := range losses {
			verify(t, fmt.Sprintf("power lost at call %d (%s): %s", k, d.log[len(d.log)-1], l.name), filepath.Join(d.lose(t, l), "store"), may)
		}
		if finished {
			t.Logf("%d calls", d.calls)
			return
		}
	}
}

func runHistory(t *testing.T, d *disk) (may map[string][]string, finished bool) {
	may = map[string][]string{}
	s, err := open(t.Context(), Options{Root: filepath.Join(d.path, "store"), Create: true}, d)
	if err != nil {
		return may, false
	}
	for _, h := range history {
		if err := h.run(t.Context(), s, may); err != nil {
			return may, false
		}
	}
	return may, d.calls < d.failAt
}

// verify opens what is left and compares it with what may be there.
func verify(t *testing.T, when, root string, may map[string][]string) {
	t.Helper()
	s, err := open(t.Context(), Options{Root: root, Create: true}, hasty{})
	if err != nil {
		t.Fatalf("%s: open: %v", when, err)
	}
	for key, bodies := range may {
		body, err := s.Get(t.Context(), key)
		if err != nil && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: get %s: %v", when, key, err)
		}
		if !slices.Contains(bodies, string(body)) {
			t.Errorf("%s: %s holds %q, want one of %q", when, key, body, bodies)
		}
	}
	page, err := s.List(t.Context(), objstore.ListOptions{})
	if err != nil {
		t.Errorf("%s: list: %v", when, err)
	}
	for _, object := range page.Objects {
		if _, ok := may[object.Key]; !ok {
			t.Errorf("%s: %s is there, and was never asked for", when, object.Key)
		}
	}
	for _, h := range history[:3] { // and goes on
		if err := h.run(t.Context(), s, map[string][]string{}); err != nil {
			t.Errorf("%s: afterwards %s %s: %v", when, h.op, h.key, err)
		}
	}
}

// TestFaultAtEveryStep fails each call in turn, before or after it took effect,
// and lets the process live and try again: the failure is Transient, nothing half
// is seen, and what the second try acknowledges survives a power loss.
func TestFaultAtEveryStep(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 1; faultAt(t, k, syscall.EIO, after); k++ {
		}
	}
}

func faultAt(t *testing.T, k int, failure error, after bool) (again bool) {
	d := newDisk(t.TempDir())
	d.failAt, d.failure, d.after = k, failure, after
	when := fmt.Sprintf("%v at call %d", failure, k)
	o := Options{Root: filepath.Join(d.path, "store"), Create: true}
	s, err := open(t.Context(), o, d)
	if err != nil {
		wantTransient(t, when+": open", err, failure)
		if s, err = open(t.Context(), o, d); err != nil {
			t.Fatalf("%s: open again: %v", when, err)
		}
	}
	may := map[string][]string{}
	for _, h := range history {
		if err := h.run(t.Context(), s, may); err == nil {
			continue
		} else {
			wantTransient(t, when+": "+h.op+" "+h.key, err, failure)
		}
		body, err := s.Get(t.Context(), h.key)
		if (err != nil) != fault.Is(err, fault.NotFound) || !slices.Contains(may[h.key], string(body)) {
			t.Errorf("%s: %s holds %q, %v; want one of %q", when, h.key, body, err, may[h.key])
		}
		if err := h.run(t.Context(), s, may); err != nil {
			t.Errorf("%s: %s %s again: %v", when, h.op, h.key, err)
		}
		body, _ = s.Get(t.Context(), h.key)
		may[h.key] = []string{string(body)}
	}
	for _, l := range losses {
		verify(t, when+", then power lost: "+l.name, filepath.Join(d.lose(t, l), "store"), may)
	}
	return d.calls >= k
}

func wantTransient(t *testing.T, when string, err, cause error) {
	t.Helper()
	if !fault.Is(err, fault.Transient) || !errors.Is(err, cause) {
		t.Errorf("%s: got %v, want Transient and the cause %v", when, err, cause)
	}
}

// TestFolderOfADeadMaker: a folder whose maker died before it was durable is made
// durable by the next who uses it.
func TestFolderOfADeadMaker(t *testing.T) {
	d := newDisk(t.TempDir())
	o := Options{Root: filepath.Join(d.path, "store"), Create: true}
	s, err := open(t.Context(), o, d)
	if err != nil {
		t.Fatal(err)
	}
	root, err := d.enter(s.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.mkdir("a"); err != nil { // and dies here, unsynced
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), "a/1", []byte("one")); err != nil {
		t.Fatal(err)
	}
	verify(t, "all that is unsynced is lost", filepath.Join(d.lose(t, losses[0]), "store"), map[string][]string{"a/1": {"one"}})
	if info, err := os.Stat(s.path("a")); err != nil || info.Mode()&os.ModeSticky != 0 {
		t.Errorf("folder a: mode %v, %v; want it without the sticky bit", info.Mode(), err)
	}
}
