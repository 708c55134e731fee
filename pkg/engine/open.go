package engine

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/garbage"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/volume"
)

// opening is one try to open a volume.
type opening struct {
	e       *Engine
	o       OpenOptions
	log     epoch.Log
	journal *journal.Journal
	from    from
	foreign []epoch.Claim // whose promises are given up
}

// Open opens a volume for writing: it decides, claims an epoch, closes the older
// ones, finds out what the journal has that nobody else knows, and serves. See the
// package's comment, and OpenOptions for when it refuses.
func (e *Engine) Open(ctx context.Context, o OpenOptions) (*Volume, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	p := &opening{e: e, o: o, log: epoch.Log{Store: o.Store, ID: o.Log}}
	v, err := p.open(ctx)
	if err != nil {
		if p.journal != nil {
			p.journal.Abandon()
		}
		return nil, fault.Wrap(err, "open volume", string(o.Volume))
	}
	return v, nil
}

func (p *opening) open(ctx context.Context) (*Volume, error) {
	if err := p.e.o.Storage.Remove(p.o.Journal + renewing); err != nil { // a leftover
		return nil, err
	}
	j, err := journal.Open(ctx, p.journalOptions())
	switch {
	case err == nil:
		p.journal = j
	case !fault.Is(err, fault.NotFound):
		return nil, err
	}
	sent := p.e.o.Now()
	reign, found, err := p.log.Open(ctx, epoch.OpenOptions{
		Owner: p.o.Owner, Purpose: epoch.Writing, Promise: p.o.Durability, Now: p.e.o.Now,
		Start: func(ctx context.Context) (epoch.Start, error) {
			f, err := p.e.start(ctx, p.o.LogOptions)
			p.from = f
			return f.Start, err
		},
		Decide: p.decide, Recheck: p.o.Recheck,
	})
	if err != nil {
		return nil, err
	}
	v, err := p.load(ctx, reign, found)
	if err != nil {
		return nil, err
	}
	if err := p.serve(ctx, v, found); err != nil {
		v.image.Close()
		return nil, err
	}
	v.lease.from = sent
	v.e.join(v)
	v.background(v.cleaning)
	v.background(v.former)
	v.background(v.applier)
	if o := p.o; o.Full && (o.Cache != nil || p.e.o.Cache != nil) {
		v.background(v.filler)
	}
	v.poke()
	v.soil(0)
	return v, nil
}

func (p *opening) journalOptions() journal.Options {
	return journal.Options{Path: p.o.Journal, Volume: p.o.Volume, Log: p.o.Log, Size: p.o.JournalBytes, Storage: p.e.o.Storage}
}

// decide says whether opening here could fence somebody or drop anything, and
// whether that is allowed. It touches nothing but this node: it makes the journal,
// so that one without an epoch is known to have been made when nothing was owed.
func (p *opening) decide(ctx context.Context, s epoch.Survey) error {
	p.foreign = nil
	for _, r := range s.Runs {
		switch {
		case r.Purpose == epoch.Ending && r.Epoch == s.Last:
			return fault.New(fault.Fenced, "%s ended the log: it is written no more", r.Claim)
		case r.Marker == nil && r.Owner != p.o.Owner && !p.o.TakeOver:
			return fault.New(fault.InUse, "%s has it open: want that node to do it, or to close it", r.Claim)
		}
	}
	for _, c := range s.Unsettled {
		switch {
		case c.Owner == p.o.Owner && p.journal != nil:
			continue
		case p.o.Rollback && (p.o.TakeOver || c.Owner == p.o.Owner):
			p.foreign = append(p.foreign, c)
		case c.Owner == p.o.Owner:
			return fault.New(fault.Precondition, "%s promised on the journal %s, which is not there: what it acknowledged last may be lost: want the file back, or leave to go back to what is in the repository", c, p.o.Journal)
		default:
			return fault.New(fault.Precondition, "%s may have acknowledged what is on its journal only: want that node back, or leave to go back to what is in the repository", c)
		}
	}
	if p.journal != nil {
		return nil
	}
	j, err := journal.Create(ctx, p.journalOptions())
	p.journal = j
	return err
}

// load restores the table, and applies the segments behind the checkpoint.
func (p *opening) load(ctx context.Context, reign *epoch.Reign, found epoch.Opening) (*Volume, error) {
	v := &Volume{
		e: p.e, o: p.o, log: p.log, reign: reign, journal: p.journal, gate: newGate(),
		kick: make(chan struct{}, 1), tidy: make(chan struct{}, 1), over: make(chan struct{}), collecting: semaphore.NewWeighted(1),
		settled: found.Settled, began: found.Start.Position,
		collector: garbage.Collector{Log: p.log, Claims: claim.Claims{Store: p.o.Store, Now: p.e.o.Now}, Grace: p.o.Grace, Now: p.e.o.Now},
	}
	v.ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	v.mu.changed = make(chan struct{})
	v.mu.snapshots = map[volume.SnapshotID]*sealing{}
	tuning := p.o.Tuning.withDefaults()
	v.tuning.Store(&tuning)
	if p.o.Rollback && p.o.Durability == JournalDurability {
		v.lease.lasts = p.o.Lease
	}
	var err error
	if v.image, err = p.e.image(p.o.LogOptions, p.from, v.tuning.Load, cmp.Or(p.o.Cache, p.e.o.Cache)); err != nil {
		return nil, err
	}
	err = p.fill(ctx, v, reign, found)
	if err != nil {
		v.image.Close()
	}
	return v, err
}

func (p *opening) fill(ctx context.Context, v *Volume, reign *epoch.Reign, found epoch.Opening) (err error) {
	tails, err := p.e.follow(ctx, v.image, p.o.LogOptions, found.Runs)
	if err != nil {
		return err
	}
	for _, t := range tails { // their checkpoints were never published: nobody was told of them
		for _, s := range t.Index.Seals {
			v.image.Forget(string(s.Snapshot))
		}
	}
	v.image.SetHead(found.Head)
	v.formed, v.formedBlocks = found.Head, v.image.Blocks()
	v.sinceCheck, v.dirtyCheck = len(tails), true
	v.blocks.Store(uint64(max(p.o.Blocks, v.image.Blocks())))
	v.image.Grow(vlog.Block(v.blocks.Load()))
	if v.ciphers.segment, err = v.image.Cipher(vlog.SegmentKind, reign.Reign, p.o.Keys.Write.ID()); err != nil {
		return err
	}
	if err := p.recover(ctx, v, found, tails); err != nil {
		return err
	}
	if err := v.journal.Begin(ctx, reign.Epoch); err != nil {
		return err
	}
	// The death may have come between counting and giving back. Nothing that is formed
	// now would give it back, and a full journal lets nothing in.
	return v.journal.Recycle(ctx, v.formedEnd)
}

// serve waits for what must be over before anything is served.
func (p *opening) serve(ctx context.Context, v *Volume, _ epoch.Opening) error {
	var names []string
	for _, c := range p.foreign {
		names = append(names, c.String())
		if c.Owner != p.o.Owner && (p.o.Stopped == nil || !p.o.Stopped(ctx, c.Owner)) {
			if err := outlast(ctx, p.o.Lease); err != nil {
				return err
			}
		}
	}
	if len(names) > 0 {
		v.dropped = fmt.Sprintf("went back to what is in the repository, %s: what else %s acknowledged is not here", v.formed.Position, strings.Join(names, ", "))
	}
	return nil
}

// recover finds out which records of the journal do not count yet, and makes them
// visible again; they are uploaded as any others. A journal that another node's
// segments have superseded is kept whole under another name.
func (p *opening) recover(ctx context.Context, v *Volume, found epoch.Opening, tails []segment.Tail) error {
	s := p.journal.Found()
	from, err := p.joins(s, found, tails)
	if err != nil {
		return err
	}
	left, superseded := s.End > from, p.superseded(s, found, tails)
	if s.Epoch > 0 && left {
		if left, err = p.anything(ctx, from, s.End); err != nil {
			return err
		}
	}
	switch {
	case s.Epoch == 0:
	case superseded:
		if err := p.renew(ctx, v, s, left); err != nil {
			return err
		}
		from = p.journal.Found().Tail
	case left:
		if err := v.replay(ctx, from, s.End); err != nil {
			return err
		}
		v.replayed = s.End
	}
	v.journal, v.ring = p.journal, p.journal.State().Size
	v.formedEnd = from
	v.mu.cut, v.mu.counted, v.mu.applied = from, from, from
	if v.replayed == 0 {
		v.settled = v.reign.Epoch - 1
	}
	return nil
}

// joins returns the position behind what counts of this journal. Corrupt if the
// journal was given back beyond it: the repository lost what it had.
func (p *opening) joins(s journal.State, found epoch.Opening, tails []segment.Tail) (vlog.LSN, error) {
	covered, known := vlog.LSN(0), false
	for _, t := range tails {
		if t.Journal.Incarnation == s.Incarnation {
			covered, known = max(covered, t.Journal.End), true
		}
	}
	if known && s.Tail > covered {
		return 0, fault.New(fault.Corrupt, "journal %s begins at %d, and the repository has it up to %d only, %s: want no gap: something was lost there", p.o.Journal, s.Tail, covered, found.Head.Position)
	}
	return max(s.Tail, covered), nil
}

// superseded reports whether segments of others count that were written after the
// journal's records, or everything that they promised is settled.
func (p *opening) superseded(s journal.State, found epoch.Opening, tails []segment.Tail) bool {
	if found.Start.Epoch > s.Epoch || found.Settled >= s.Epoch {
		return true
	}
	for _, t := range tails {
		if t.Epoch >= s.Epoch && t.Journal.Incarnation != s.Incarnation && t.Journal.Incarnation != 0 {
			return true
		}
	}
	return false
}

// anything reports whether a range of the journal has a change or a seal.
func (p *opening) anything(ctx context.Context, from, to vlog.LSN) (bool, error) {
	for r, err := range p.journal.Records(ctx, from, to) {
		if err != nil {
			return false, err
		}
		if len(r.Changes) > 0 || r.Seal != nil {
			return true, nil
		}
	}
	return false, nil
}

// renewing is the suffix of a journal that is to replace another one.
const renewing = ".new"

// renew puts a new journal in the place of a superseded one, in one moment, so that
// a death never leaves none. The old one is kept under another name if it has
// anything.
func (p *opening) renew(ctx context.Context, v *Volume, s journal.State, keep bool) error {
	p.journal.Abandon()
	p.journal = nil
	storage := p.e.o.Storage
	if keep {
		to := fmt.Sprintf("%s.kept-%d-%016x", p.o.Journal, s.Epoch, uint64(s.Incarnation))
		if err := storage.Link(p.o.Journal, to); err != nil && !fault.Is(err, fault.Exists) {
			return err
		}
		v.kept = append(v.kept, to)
	}
	o := p.journalOptions()
	o.Path += renewing
	j, err := journal.Create(ctx, o)
	if err != nil {
		return err
	}
	j.Abandon()
	if err := storage.Rename(o.Path, p.o.Journal); err != nil {
		return err
	}
	p.journal, err = journal.Open(ctx, p.journalOptions())
	return err
}

// replay makes changes of the journal visible that are not in the table.
func (v *Volume) replay(ctx context.Context, from, to vlog.LSN) error {
	for r, err := range v.journal.Records(ctx, from, to) {
		if err != nil {
			return err
		}
		for _, c := range r.Changes {
			if c.Kind == journal.Data {
				v.overlay.Write(c.First, c.Count, c.At)
			} else {
				v.overlay.Zero(c.First, c.Count, r.At)
			}
		}
		if r.Seal != nil {
			v.mu.snapshots[r.Seal.Snapshot] = &sealing{end: r.End}
		}
		if len(r.Changes) > 0 || r.Seal != nil {
			v.noteChange(r.End, r.Changes...)
		}
	}
	return nil
}

// image restores the image that a log starts from.
func (e *Engine) image(o LogOptions, f from, tuning func() *Tuning, c *cache.Cache) (*image.Image, error) {
	options := image.Options{
		Store: o.Store, Log: o.Log, Codec: e.codec, Cache: c, LimitBytes: tableFloor,
		Key:         func(id frame.KeyID) (*frame.DataKey, error) { return o.Keys.find(id) },
		ReadTimeout: func() time.Duration { return tuning().ReadTimeout },
	}
	var m *image.Image
	var err error
	if f.checkpoint == nil {
		m, err = image.New(options, f.base.Blocks)
	} else {
		m, err = image.Restore(options, f.checkpoint)
	}
	if err == nil {
		m.SetHead(f.Head)
		m.Grow(f.base.Blocks)
	}
	return m, err
}

// tailsAtOnce is how many indexes an opener reads at the same time.
const tailsAtOnce = 16

// follow applies the segments of runs, in their order.
func (e *Engine) follow(ctx context.Context, m *image.Image, o LogOptions, runs []epoch.Run) (all []segment.Tail, err error) {
	for _, r := range runs {
		tails := make([]segment.Tail, len(r.Segments))
		group, within := errgroup.WithContext(ctx)
		group.SetLimit(tailsAtOnce)
		for i, s := range r.Segments {
			group.Go(func() error {
				t, err := e.tail(within, o, s)
				tails[i] = t
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		if head := m.Head(); r.Epoch > head.Epoch {
			m.SetHead(vlog.Head{Position: vlog.Position{Epoch: r.Epoch}, Chain: head.Chain.Begin(o.Log, r.Epoch, r.Nonce)})
		}
		for _, t := range tails {
			if err := m.Apply(ctx, image.Segment{Info: t.Info, Index: t.Index, Digest: t.Digest, Chain: t.Chain, SizeBytes: t.SizeBytes}); err != nil {
				return nil, err
			}
		}
		all = append(all, tails...)
	}
	return all, nil
}

// tail reads a segment's index, with the key that the log is written with.
func (e *Engine) tail(ctx context.Context, o LogOptions, s epoch.Found) (segment.Tail, error) {
	cipher, err := e.codec.Cipher(vlog.SegmentKind, s.Reign, o.Keys.Write)
	if err != nil {
		return segment.Tail{}, err
	}
	t, err := segment.ReadTail(ctx, o.Store, s.Identity, s.SizeBytes, cipher)
	if fault.Is(err, fault.Corrupt) { // it may be the reply that was spoiled
		t, err = segment.ReadTail(ctx, o.Store, s.Identity, s.SizeBytes, cipher)
	}
	return t, err
}
