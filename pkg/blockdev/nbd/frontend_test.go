package nbd

import (
	"context"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// What needs the kernel's nbd is tested in tests/guest.

func TestOptions(t *testing.T) {
	for dir, ok := range map[string]bool{"/run/holkas": true, "": false, "run": false, "/run/../x": false, "/run/": false, "/a\nb": false} {
		if err := (Options{Dir: dir}).Validate(); ok != (err == nil) || !ok && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v", dir, err)
		}
	}
}

// TestHold: a volume's device is changed by one at a time, others at once.
func TestHold(t *testing.T) {
	f := &FrontEnd{held: make(map[volume.ID]chan struct{})}
	f.serving, f.end = context.WithCancel(t.Context())
	id := volume.NewID()
	release, err := f.hold(t.Context(), id)
	must(t, err)
	other, err := f.hold(t.Context(), volume.NewID())
	must(t, err)
	other()
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := f.hold(short, id); !fault.Is(err, fault.Busy) {
		t.Errorf("while it is held: got %v, want busy", err)
	}
	next := make(chan error, 1)
	go func() {
		release, err := f.hold(t.Context(), id)
		if err == nil {
			release()
		}
		next <- err
	}()
	release()
	must(t, <-next)
	must(t, f.Close(t.Context()))
	if _, err := f.hold(t.Context(), id); !fault.Is(err, fault.Precondition) {
		t.Errorf("closed: got %v, want precondition", err)
	}
}
