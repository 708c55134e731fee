//go:build guest

package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/nbd"
	"github.com/holkas-io/holkas/pkg/volume"
)

// file is a disk in a file, which outlives the process. What was written
// survives the process; a flush is only counted.
type file struct {
	f *os.File

	mu   sync.Mutex
	size int64
	log  map[string]int // how often it did what
	fail error          // of writes
	// gate, if there is one, holds every write until it is closed.
	gate chan struct{}
}

func openFile(name string, sizeBytes int64) (*file, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{f: f, size: sizeBytes, log: make(map[string]int)}, f.Truncate(sizeBytes)
}

func (d *file) did(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log[what]++
}

// times returns how often it did something.
func (d *file) times(what string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log[what]
}

func (d *file) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *file) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.size
}

func (d *file) ReadAt(_ context.Context, p []byte, off int64) error {
	d.did("read")
	_, err := d.f.ReadAt(p, off)
	return err
}

func (d *file) WriteAt(ctx context.Context, p []byte, off int64) error {
	d.did("write")
	d.mu.Lock()
	gate, fail := d.gate, d.fail
	d.mu.Unlock()
	if fail != nil {
		return fail
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err := d.f.WriteAt(p, off)
	return err
}

func (d *file) Zero(_ context.Context, off, length int64, discard bool) error {
	d.did(fmt.Sprintf("zero discard=%t", discard))
	return unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
}

func (d *file) Flush(context.Context) error {
	d.did("flush")
	return nil
}

// The engine of a test: its volume, and where front-ends find their devices.
const (
	engineDir    = "/run/engine"
	engineVolume = volume.ID("v-aaaaaaaaaaaaaaaaaaaaaaaaaa")
	engineBytes  = 64 << 20
)

// engine serves a file until it is killed, or ends in good order when it is
// interrupted. It says on its output when it does so. A stuck one carries out no
// write, and detaches its device when it is interrupted.
func engine(name string) {
	err := func() error {
		disk, err := openFile(name, engineBytes)
		if err != nil {
			return err
		}
		stuck := os.Getenv("ENGINE_STUCK") != ""
		if stuck {
			disk.gate = make(chan struct{})
		}
		f, err := nbd.New(nbd.Options{Dir: engineDir})
		if err != nil {
			return err
		}
		d, err := f.Attach(context.Background(), engineVolume, disk, blockdev.Options{Discard: true})
		if err != nil {
			return err
		}
		fmt.Println(d.Path)
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		<-interrupted
		if stuck {
			return f.Detach(context.Background(), engineVolume)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return errors.Join(f.Close(ctx), ctx.Err())
	}()
	if err != nil {
		fmt.Println("engine:", err)
		os.Exit(1)
	}
}
