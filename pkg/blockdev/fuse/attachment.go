package fuse

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// attachment is what the server has of one volume.
type attachment struct {
	server *Server
	id     volume.ID
	users  int           // guarded by the server's mutex
	turn   chan struct{} // full while somebody has what follows

	session *session         // none: no device
	service *service         // none: it is paused
	options blockdev.Options // as it was attached
	broken  error            // what an earlier server left cannot be understood
	process *process         // the last step, which may be under way
}

// adopt takes the descriptors of a device that an earlier server left.
func (a *attachment) adopt(fds []int) error {
	if len(fds) != 3 {
		a.broken = fault.New(fault.Corrupt, "its keeper has %d descriptors, want 3", len(fds))
		closeAll(fds)
		return a.broken
	}
	l, err := openLedger(fds[1])
	if err != nil {
		a.broken = err
		closeAll(fds)
		return err
	}
	a.session = &session{device: fds[0], ledger: l, root: fds[2]}
	d, found, err := loop.Named("/" + l.name)
	switch {
	case err != nil:
		return err
	case !found:
		// Its engine died before there was one. Nobody has waited for it, but a
		// step that is still at it.
		return a.remove()
	}
	a.server.left[a.id] = d
	return nil
}

func (a *attachment) attach(ctx context.Context, disk blockdev.Disk, o blockdev.Options) (blockdev.Device, error) {
	if err := a.tidy(); err != nil {
		return blockdev.Device{}, err
	}
	fresh := a.session == nil
	switch {
	case fresh:
		if err := a.make(disk.Size(), o); err != nil {
			return blockdev.Device{}, err
		}
	case a.session.options().ReadOnly != o.ReadOnly:
		return blockdev.Device{}, fault.New(fault.InUse, "it has a device with read-only %t: detach it first", !o.ReadOnly)
	case disk.Size() < a.session.ledger.size():
		return blockdev.Device{}, fault.New(fault.Invalid, "a disk of %d bytes: its device has %d", disk.Size(), a.session.ledger.size())
	}
	paused := a.service == nil
	if paused {
		a.service = a.session.serve(ctx, disk)
	}
	d, err := a.take(ctx, runAttach, o)
	switch {
	case err != nil && fresh && a.atRest():
		return d, errors.Join(err, a.remove())
	case err != nil && paused:
		return d, errors.Join(err, a.pause())
	case err == nil:
		a.options = o
		a.server.found(a.id)
	}
	return d, err
}

// atRest reports whether no step is being taken.
func (a *attachment) atRest() bool {
	if a.process == nil {
		return true
	}
	select {
	case <-a.process.ended:
		return true
	default:
		return false
	}
}

// make makes a session that outlives this process.
func (a *attachment) make(sizeBytes int64, o blockdev.Options) error {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:])
	name := string(a.id) + "-" + hex.EncodeToString(nonce[:])
	// The name is known before there is a device that has it.
	if err := os.WriteFile(a.record(), []byte(name), 0o600); err != nil {
		return fault.As(fault.Internal, err)
	}
	crashpoint.Here("device named")
	s, err := newSession(name, sizeBytes, o)
	if err != nil {
		return err
	}
	if err := a.server.hold.put(string(a.id), []int{s.device, s.ledger.fd, s.root}); err != nil {
		s.close()
		return errors.Join(err, a.server.hold.drop(string(a.id)))
	}
	crashpoint.Here("device held")
	a.session = s
	return nil
}

func (a *attachment) resize(ctx context.Context) error {
	if a.service == nil {
		return fault.New(fault.NotFound, "no device is attached")
	}
	_, err := a.take(ctx, runResize, a.options)
	return err
}

func (a *attachment) detach(ctx context.Context) error {
	if err := a.tidy(); err != nil || a.session == nil {
		return err
	}
	paused := a.service == nil
	if paused {
		name := "/" + a.session.ledger.name
		n, err := loop.InFlight(name)
		if err != nil {
			return err
		}
		if n > 0 { // nobody would answer them
			return fault.New(fault.InUse, "%d requests to its device wait: attach it first", n)
		}
		if _, found, err := loop.Named(name); err != nil || !found {
			return errors.Join(err, a.remove())
		}
		a.service = a.session.serve(ctx, absent{a.session.ledger})
	}
	_, err := a.take(ctx, runDetach, a.session.options())
	switch {
	case err == nil:
		crashpoint.Here("device detached")
		return a.remove()
	case paused:
		return errors.Join(err, a.pause())
	}
	return err
}

// take has a step taken, with the device served. At the end of ctx, or of the
// server, it does not wait for the step, which may have to wait for the disk.
func (a *attachment) take(ctx context.Context, what string, o blockdev.Options) (_ blockdev.Device, err error) {
	if !a.atRest() {
		select {
		case <-a.process.ended:
		case <-a.server.quit:
			return blockdev.Device{}, errClosed
		case <-ctx.Done():
			return blockdev.Device{}, fault.New(fault.Busy, "earlier work on its device waits for the disk: %w", ctx.Err())
		}
	}
	size := a.service.disk.Size()
	a.session.ledger.setSize(size)
	s := step{Name: a.session.ledger.name, Size: size, Options: o}
	if a.process, err = s.start(ctx, what, a.session.root, a.record()); err != nil {
		return blockdev.Device{}, err
	}
	select {
	case <-a.process.ended:
		return a.process.outcome(ctx)
	case <-a.server.quit:
		return blockdev.Device{}, errClosed
	case <-ctx.Done():
		return blockdev.Device{}, ctx.Err()
	}
}

// leave pauses the device and lets go of it.
func (a *attachment) leave() error {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	if err := a.pause(); err != nil || a.session == nil {
		return err
	}
	a.session.close()
	a.session = nil
	return nil
}

// pause ends the service.
func (a *attachment) pause() error {
	for a.service != nil && !a.service.stop() {
		// There is no file yet, and maybe a step that is about to ask for it.
		if a.atRest() {
			return a.remove()
		}
		select {
		case <-a.process.ended:
		case <-time.After(5 * time.Millisecond):
		}
	}
	a.service = nil
	return nil
}

// remove ends a session that has no device, or a dead one. No step is being
// taken but by an earlier server's.
func (a *attachment) remove() error {
	if err := a.server.hold.drop(string(a.id)); err != nil {
		return err
	}
	a.session.unmount()
	if a.service != nil {
		a.service.end()
	}
	a.session.close()
	a.session, a.service = nil, nil
	a.server.found(a.id)
	return a.server.bury(a.id)
}

// tidy removes a session whose filesystem is dead, and the device with it.
func (a *attachment) tidy() error {
	switch {
	case a.broken != nil:
		return a.broken
	case a.session == nil:
		return a.server.bury(a.id)
	case connected(a.session.device):
		return nil
	}
	return a.remove()
}

// record is the file that has the name of the volume's file. It is there before
// the device, and goes after it.
func (a *attachment) record() string { return a.server.record(a.id) }

func (s *Server) record(id volume.ID) string { return filepath.Join(s.dir.Name(), string(id)) }

// buryLimit is how long bury waits for a step of an earlier server, which has
// nothing to wait for.
const buryLimit = 10 * time.Second

// bury removes a volume's record, and frees its device, if it has one: a dead
// one, whose filesystem is gone.
func (s *Server) bury(id volume.ID) error {
	record, err := os.OpenFile(s.record(id), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	defer record.Close()
	ctx, cancel := context.WithTimeout(context.Background(), buryLimit)
	defer cancel()
	if err := flock(ctx, record); err != nil {
		return fault.New(fault.Busy, "the device of %s is dead, and an earlier engine's work on it has not ended: %w", id, err)
	}
	name, err := io.ReadAll(record)
	if err == nil && len(name) > 0 {
		err = loop.Abandon("/" + string(name))
	}
	if err == nil {
		err = os.Remove(s.record(id))
	}
	return fault.As(fault.Internal, err)
}

// absent is the disk of a device that is to be detached and has none. It grants
// nothing, and fails nothing either.
type absent struct{ ledger *ledger }

func (a absent) Size() int64 { return a.ledger.size() }

func (absent) ReadAt(ctx context.Context, _ []byte, _ int64) error  { return wait(ctx) }
func (absent) WriteAt(ctx context.Context, _ []byte, _ int64) error { return wait(ctx) }
func (absent) Zero(ctx context.Context, _, _ int64, _ bool) error   { return wait(ctx) }
func (absent) Flush(ctx context.Context) error                      { return wait(ctx) }

func wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
