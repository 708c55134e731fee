package object

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/internal/freeze"
	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// cut is what this process knows of a snapshot that is not complete: what nobody
// knows is void.
type cut struct {
	log    *engine.Volume // in which it was cut; nil: it was not
	closed bool           // the log was closed cleanly behind it
	plan
	files backend.Filesystem
	at    time.Time
	pause time.Duration // for which writers waited
}

// plan is how a cut is made:
//
//	volume                         asked for    how                        turns out
//	not attached, or read-only     any          in the log, at rest        as asked
//	held by a pause, mounted       any          frozen, in the log         as asked
//	held by a pause, not mounted   any          writers wait, in the log   crash
//	mounted                        filesystem   frozen, in the log         filesystem
//	mounted                        crash        in the log                 crash
//	attached and not mounted       any          page cache written, in     crash
//	                                            the log
type plan struct {
	consistency volume.Consistency
	mountPoint  string // to freeze; empty: nothing is frozen for it
	flush       string // the device whose page cache is written first
}

// cutting is one call that makes a snapshot.
type cutting struct {
	*site
	b    *Backend
	r    backend.CreateSnapshotRequest
	of   repository.ObjectVolume
	held *pause.Held[*member]
}

func (c *cutting) run(ctx context.Context) (backend.Snapshot, error) {
	known := c.b.knownCut(c.r.ID)
	if known == nil {
		known = &cut{}
		c.b.noteCut(c.r.ID, known)
		written, err := c.begin(ctx)
		if err == nil {
			return c.make(ctx, written, known)
		}
		if !fault.Is(err, fault.Busy) {
			return backend.Snapshot{}, err // if it was written none the less, it is known
		}
		c.b.forgetCut(c.r.ID)
		known = nil
	}
	record, err := c.Repository.ObjectSnapshots.Latest(ctx, string(c.r.ID))
	if fault.Is(err, fault.NotFound) && known != nil {
		if record, err = c.begin(ctx); err != nil {
			return backend.Snapshot{}, err
		}
	}
	if err != nil {
		return backend.Snapshot{}, err
	}
	v := record.Value
	switch {
	case v.State != repository.Creating || v.Volume != c.r.Volume || v.Asked != c.r.Consistency:
		return cutBefore(c.r, v)
	case known == nil:
		return backend.Snapshot{}, c.fail(ctx, record, nil, "its creation was interrupted, and nobody knows what was cut")
	case known.log == nil:
		return c.make(ctx, record, known)
	}
	return c.resume(ctx, record, known)
}

// begin writes the intent. Busy if there is a record.
func (c *cutting) begin(ctx context.Context) (snapshotRecord, error) {
	record, err := c.Repository.ObjectSnapshots.Append(ctx, string(c.r.ID), snapshotRecord{}, repository.ObjectSnapshot{
		ID: c.r.ID, State: repository.Creating, Volume: c.of.ID, Asked: c.r.Consistency, Log: c.of.Log, Changed: c.b.now(),
	})
	if err == nil {
		crashpoint.Here("object: snapshot begun")
	}
	return record, err
}

// make cuts and completes. Where it fails before the cut, a later call may cut.
func (c *cutting) make(ctx context.Context, record snapshotRecord, known *cut) (backend.Snapshot, error) {
	log, done, err := c.log(ctx)
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer func() { done(context.WithoutCancel(ctx)) }()
	if known.plan, err = c.plan(); err != nil {
		return backend.Snapshot{}, err
	}
	known.files = c.of.Files
	held, err := c.cut(ctx, log, known)
	crashpoint.Here("object: snapshot cut")
	switch {
	case known.log == nil:
		return backend.Snapshot{}, err
	case err != nil:
		return backend.Snapshot{}, c.fail(ctx, record, log, "it is not known whether it was cut: "+err.Error())
	case !held:
		return backend.Snapshot{}, c.fail(ctx, record, log, "writers went on before it was cut")
	}
	return c.complete(ctx, record, known, log)
}

// resume completes what an earlier call cut.
func (c *cutting) resume(ctx context.Context, record snapshotRecord, known *cut) (backend.Snapshot, error) {
	log, done, err := c.log(ctx)
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer func() { done(context.WithoutCancel(ctx)) }()
	if log != known.log && !known.closed {
		return backend.Snapshot{}, c.fail(ctx, record, log, "the log was opened anew since it was cut")
	}
	return c.complete(ctx, record, known, log)
}

// log returns the volume's log, open for writing.
func (c *cutting) log(ctx context.Context) (*engine.Volume, func(context.Context), error) {
	if c.held != nil && c.held.Member != nil {
		return c.held.Member.log, func(context.Context) {}, nil
	}
	return c.b.use(ctx, c.site, c.of, func() (keyring.Keys, error) { return c.b.keys(ctx, c.site, c.of, c.r.Secrets) })
}

// plan looks at who may be writing the volume.
func (c *cutting) plan() (plan, error) {
	if c.held != nil {
		p := plan{consistency: c.r.Consistency}
		if m := c.held.Member; m != nil && m.raw {
			p.consistency = volume.CrashConsistent
		}
		return p, nil
	}
	l := c.b.live(c.of.ID)
	if !l.writer() {
		return plan{consistency: c.r.Consistency}, nil
	}
	m, err := freeze.Find(l.device.Path)
	switch {
	case err != nil:
		return plan{}, err
	case m.ReadOnly:
		return plan{consistency: c.r.Consistency}, nil
	case m.Point == "":
		return plan{consistency: volume.CrashConsistent, flush: l.device.Path}, nil
	case c.r.Consistency == volume.CrashConsistent:
		return plan{consistency: volume.CrashConsistent}, nil
	}
	return plan{consistency: volume.FilesystemConsistent, mountPoint: m.Point}, nil
}

// holds reports whether the pause holds its writers still: not any more from the
// moment in which its limit lets the volume's own go on.
func (c *cutting) holds() bool {
	return c.held.Holds() && (c.held.Member == nil || !c.held.Member.expired.Load())
}

// cut cuts the log as planned, and reports whether writers were held where they
// were to be. known.log is set once there may be a cut.
func (c *cutting) cut(ctx context.Context, log *engine.Volume, known *cut) (held bool, err error) {
	if known.flush != "" {
		if err := flushDevice(ctx, known.flush); err != nil {
			return false, err
		}
	}
	if known.mountPoint != "" {
		return c.cutFrozen(ctx, log, known)
	}
	if c.held != nil && !c.holds() {
		return false, fault.New(fault.Precondition, "the pause ended before the cut was made: it lasts %v at most", c.b.options.PauseLimit)
	}
	began := time.Now()
	err = c.cutLog(ctx, log, known)
	if c.held == nil && c.b.live(c.of.ID).writer() {
		known.pause = time.Since(began)
	}
	return c.held == nil || c.holds(), err
}

// cutLog makes the cut, whatever becomes of the caller: half of one is of no use.
func (c *cutting) cutLog(ctx context.Context, log *engine.Volume, known *cut) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.b.options.PauseLimit)
	defer cancel()
	known.log, known.at = log, c.b.nextCut(c.of.ID)
	return log.Cut(ctx, c.r.ID)
}

// flushDevice writes what the page cache has of a device, by a child: see package
// freeze.
func flushDevice(ctx context.Context, device string) error {
	if out, err := exec.CommandContext(ctx, "sync", device).CombinedOutput(); err != nil {
		return fault.New(fault.Transient, "sync %s: %w: %s", device, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// cutFrozen cuts while the filesystem is frozen. The upload comes after the thaw.
func (c *cutting) cutFrozen(ctx context.Context, log *engine.Volume, known *cut) (held bool, err error) {
	f, err := c.b.readyToFreeze(ctx, c.of.ID, known.mountPoint)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close(), c.b.unfrozen(c.of.ID)) }()
	limit := c.b.options.PauseLimit
	if err := errors.Join(f.Settle(ctx), f.Arm(limit)); err != nil {
		return false, err
	}
	defer f.Watchdog(ctx, limit)()
	began := time.Now()
	if err := f.Begin(); err != nil {
		return false, err
	}
	err = c.cutLog(ctx, log, known)
	crashpoint.Here("object: cut while frozen")
	held = f.Thaw(context.WithoutCancel(ctx))
	known.pause = time.Since(began)
	return held, err
}

func (b *Backend) frozen(id volume.ID) string { return filepath.Join(b.folder("frozen"), string(id)) }

// readyToFreeze writes what is dirty, and makes durable that the filesystem may be
// frozen. unfrozen undoes it.
func (b *Backend) readyToFreeze(ctx context.Context, id volume.ID, mountPoint string) (*freeze.Apart, error) {
	f, err := freeze.OpenApart(ctx, id, mountPoint)
	if err != nil {
		return nil, err
	}
	if err := writeFile(b.frozen(id), []byte(mountPoint+"\n")); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	crashpoint.Here("object: freeze recorded")
	return f, nil
}

func (b *Backend) unfrozen(id volume.ID) error { return removeFile(b.frozen(id)) }

// complete waits until all that the snapshot needs is in the repository, and
// records it.
func (c *cutting) complete(ctx context.Context, record snapshotRecord, known *cut, log *engine.Volume) (backend.Snapshot, error) {
	is, err := log.Snapshot(ctx, c.r.ID)
	if err != nil {
		if log.Err() != nil || fault.Is(err, fault.Fenced) || fault.Is(err, fault.NotFound) {
			return backend.Snapshot{}, c.fail(ctx, record, nil, "what was cut is lost: "+err.Error())
		}
		return backend.Snapshot{}, err
	}
	crashpoint.Here("object: snapshot complete")
	if c.held != nil && !c.holds() {
		return backend.Snapshot{}, c.fail(ctx, record, log, "the pause ended before it was complete")
	}
	v := record.Value
	v.State, v.Consistency, v.Files, v.Changed = repository.Ready, known.consistency, known.files, c.b.now()
	v.Epoch, v.Sequence, v.Chain = is.Head.Epoch, is.Head.Sequence, is.Head.Chain.String()
	v.Checkpoint, v.Blocks, v.Cut, v.Pause = is.Checkpoint.String(), is.Blocks, known.at, known.pause
	for _, k := range c.of.Keys.Keys {
		v.KeyIDs = append(v.KeyIDs, k.ID)
	}
	record, err = c.Repository.ObjectSnapshots.Append(ctx, string(c.r.ID), record, v)
	if fault.Is(err, fault.Busy) {
		if record, err = c.Repository.ObjectSnapshots.Latest(ctx, string(c.r.ID)); err == nil {
			return cutBefore(c.r, record.Value)
		}
	}
	if err != nil {
		return backend.Snapshot{}, err
	}
	crashpoint.Here("object: snapshot ready")
	c.b.forgetCut(c.r.ID)
	return replySnapshot(record.Value), nil
}

// fail ends a snapshot for good, and returns that it has.
func (c *cutting) fail(ctx context.Context, record snapshotRecord, log *engine.Volume, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if log != nil {
		log.Forget(c.r.ID)
	}
	c.b.forgetCut(c.r.ID)
	if err := c.b.trash(ctx, c.site, claim.Subject(c.r.ID)); err != nil {
		return err
	}
	v := record.Value
	v.State, v.Why, v.Changed = repository.Failed, why, c.b.now()
	if _, err := c.Repository.ObjectSnapshots.Append(ctx, string(c.r.ID), record, v); err != nil && !fault.Is(err, fault.Busy) {
		return err
	}
	klog.FromContext(ctx).Info("Snapshot failed for good", "snapshotID", c.r.ID, "volumeID", c.of.ID, "why", why)
	return fault.New(fault.Precondition, "%s: %w", why, errFailed)
}

// undoTimeout is how long an undo may take whose caller has gone.
const undoTimeout = 20 * time.Second

func (b *Backend) noteCut(id volume.SnapshotID, c *cut) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.cuts[id] = c
}

func (b *Backend) knownCut(id volume.SnapshotID) *cut {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.cuts[id]
}

func (b *Backend) forgetCut(id volume.SnapshotID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mu.cuts, id)
}

// closedCuts notes that a log was closed cleanly: what was cut in it is complete.
func (b *Backend) closedCuts(log *engine.Volume) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.mu.cuts {
		if c.log == log {
			c.closed = true
		}
	}
}

// nextCut returns now, or the least later time that no snapshot of the volume has
// that was cut here.
func (b *Backend) nextCut(id volume.ID) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.now()
	if last := b.mu.last[id]; !at.After(last) {
		at = last.Add(1)
	}
	b.mu.last[id] = at
	return at
}
