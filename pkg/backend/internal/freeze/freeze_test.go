package freeze

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mounted is an ext4 that is mounted.
func mounted(t *testing.T) (dir string) {
	t.Helper()
	image := backendtest.Image(t, 16<<20)
	backendtest.Command(t, "mkfs.ext4", "-q", "-F", image)
	return backendtest.Mount(t, image, "loop,noatime")
}

// writeSoon writes a file, which takes no time unless the filesystem is frozen.
func writeSoon(t *testing.T, dir, name string) {
	t.Helper()
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600) }()
	select {
	case err := <-written:
		must(t, err)
	case <-time.After(20 * time.Second):
		m, err := os.Open(dir)
		must(t, err)
		defer m.Close()
		_ = thawMount(m)
		<-written
		t.Fatalf("%s: %s is still frozen", name, dir)
	}
}

// TestGuard: its process dies, hangs, or ends the freeze itself.
func TestGuard(t *testing.T) {
	dir := mounted(t)
	m, err := os.Open(dir)
	must(t, err)
	defer m.Close()
	start := func(limit time.Duration) *guard {
		g, err := newGuard(m, limit)
		must(t, err)
		must(t, freezeMount(m))
		return g
	}
	killed := start(time.Hour)
	must(t, killed.over.Close()) // as the kernel does for a process that is gone
	writeSoon(t, dir, "killed")
	_ = killed.child.Wait()

	stopped := start(0) // nobody says anything
	writeSoon(t, dir, "stopped")
	must(t, stopped.end())

	mine := start(time.Hour)
	must(t, mine.end())
	if err := thawMount(m); err != nil {
		t.Errorf("a guard that was told that it is over has thawed: %v", err)
	}
}

// TestHeld: a freeze says whether it held until it was ended.
func TestHeld(t *testing.T) {
	dir := mounted(t)
	const id = volume.ID("v-aaaaaaaaaaaaaaaaaaaaaaaaaa")
	open := func() *Freeze {
		t.Helper()
		f, err := Open(id, dir)
		must(t, err)
		t.Cleanup(func() { must(t, f.Close()) })
		must(t, f.Settle())
		must(t, f.Arm(time.Minute))
		return f
	}
	held := open()
	must(t, held.Begin())
	if first, again := held.Thaw(t.Context()), held.Thaw(t.Context()); !first || !again {
		t.Error("a freeze that was ended by its owner: it did not hold")
	}
	expired := open()
	must(t, expired.Begin())
	stop := expired.Watchdog(t.Context(), time.Millisecond)
	defer stop()
	writeSoon(t, dir, "expired")
	if expired.Thaw(t.Context()) {
		t.Error("a freeze that ended at its limit: it held")
	}
	stolen := open()
	must(t, stolen.Begin())
	must(t, thawMount(stolen.mount))
	if stolen.Thaw(t.Context()) {
		t.Error("a freeze that somebody else ended: it held")
	}
	late := open()
	late.Expire(t.Context())
	if err := late.Begin(); !fault.Is(err, fault.Precondition) {
		t.Errorf("freeze after the limit: %v, want precondition", err)
	}
}

// TestFind: a mount is found by its device, with its mode.
func TestFind(t *testing.T) {
	dir := mounted(t)
	source := backendtest.Command(t, "findmnt", "-n", "-o", "SOURCE", dir)
	if got, err := Find(source); err != nil || got != (Mount{Point: dir}) {
		t.Errorf("%s: got %+v, %v, want it at %s", source, got, err, dir)
	}
	backendtest.Command(t, "mount", "-o", "remount,ro", dir)
	if got, err := Find(source); err != nil || got != (Mount{Point: dir, ReadOnly: true}) {
		t.Errorf("%s: got %+v, %v, want it read-only at %s", source, got, err, dir)
	}
}

// TestApart: the same by a child, which outlives its starter.
func TestApart(t *testing.T) {
	dir := mounted(t)
	const id = volume.ID("v-aaaaaaaaaaaaaaaaaaaaaaaaaa")
	open := func(limit time.Duration) *Apart {
		t.Helper()
		a, err := OpenApart(t.Context(), id, dir)
		must(t, err)
		must(t, a.Arm(limit))
		return a
	}
	frozen := func() error { return exec.Command("fsfreeze", "--unfreeze", dir).Run() } // which ends it
	held := open(time.Minute)
	must(t, held.Begin())
	if first, again := held.Thaw(t.Context()), held.Thaw(t.Context()); !first || !again {
		t.Error("a freeze that was ended by its owner: it did not hold")
	}
	must(t, held.Close())
	writeSoon(t, dir, "ended")
	limited := open(time.Millisecond)
	must(t, limited.Begin())
	writeSoon(t, dir, "limited")
	if limited.Thaw(t.Context()) {
		t.Error("a freeze that ended at its limit: it held")
	}
	must(t, limited.Close())
	expired := open(time.Minute)
	must(t, expired.Begin())
	stop := expired.Watchdog(t.Context(), time.Millisecond)
	writeSoon(t, dir, "expired")
	stop()
	if expired.Thaw(t.Context()) {
		t.Error("a freeze that expired: it held")
	}
	must(t, expired.Close())
	stolen := open(time.Minute)
	must(t, stolen.Begin())
	must(t, frozen())
	if stolen.Thaw(t.Context()) {
		t.Error("a freeze that somebody else ended: it held")
	}
	must(t, stolen.Close())
	orphan := open(time.Minute)
	must(t, orphan.Begin())
	must(t, orphan.say.Close()) // as the kernel does for a process that is gone
	writeSoon(t, dir, "orphan")
	_ = orphan.child.Wait()
	must(t, orphan.mount.Close())
	unused := open(time.Minute)
	must(t, unused.Close())
	if frozen() == nil {
		t.Error("left frozen")
	}
	twice, other := open(time.Minute), open(time.Minute)
	must(t, twice.Begin())
	if err := other.Begin(); !fault.Is(err, fault.Busy) {
		t.Errorf("freeze what is frozen: %v, want busy", err)
	}
	if !twice.Thaw(t.Context()) {
		t.Error("a freeze beside one that was refused: it did not hold")
	}
	must(t, twice.Close())
	must(t, other.Close())
}
