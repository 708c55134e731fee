package loop_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
)

// TestNamed: a device is known by what the kernel calls its file, without asking
// the file; only that one is freed, at once or when its last user closes it.
func TestNamed(t *testing.T) {
	for _, open := range []bool{false, true} {
		file, other := backing(t, "disk"), backing(t, "disk")
		want, kept := attach(t, file, blockdev.Options{Discard: true}), attach(t, other, blockdev.Options{ReadOnly: true})
		if d, found, err := loop.Named(file); err != nil || !found || d != want {
			t.Errorf("got %+v, %t, %v, want %+v", d, found, err, want)
		}
		if n, err := loop.InFlight(file); err != nil || n != 0 {
			t.Errorf("%d requests are under way, %v", n, err)
		}
		for _, no := range []string{file + "x", filepath.Base(file), "", "/"} {
			if _, found, err := loop.Named(no); err != nil || found {
				t.Errorf("%q: found %t, %v", no, found, err)
			}
			must(t, loop.Abandon(no))
		}
		var user *os.File
		if open {
			var err error
			user, err = os.Open(want.Path)
			must(t, err)
		}
		must(t, loop.Abandon(file))
		if _, found, _ := loop.Named(file); found != open {
			t.Errorf("open %t: abandoned, it is found %t", open, found)
		}
		if open {
			must(t, user.Close())
			if _, found, _ := loop.Named(file); found {
				t.Error("it is there after its last user")
			}
		}
		if found, err := new(loop.Attacher).Find(context.Background(), filepath.Dir(other)); err != nil || found[other] != kept {
			t.Errorf("the other device: %+v, %v, want %+v", found, err, kept)
		}
	}
}
