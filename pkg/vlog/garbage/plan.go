package garbage

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
)

// Plan is what may go: keys of objects.
type Plan struct {
	// AsOf is the position of the checkpoint that decided; zero if there is none
	// old enough, or the whole log goes.
	AsOf vlog.Position
	// Objects are segments and tables.
	Objects []string
	// Adding are checkpoints that add to others, Checkpoints those that stand alone:
	// they go last.
	Adding, Checkpoints []string

	newest    []string // of an ended log: what tells its snapshots, one after another
	swept     swept    // what is swept once the plan is carried out
	forgotten []string // former records of that
}

// Empty reports whether there is nothing to delete.
func (p Plan) Empty() bool {
	return len(p.Objects)+len(p.Adding)+len(p.Checkpoints)+len(p.newest) == 0
}

// scope is what a collection may decide by.
type scope struct {
	asOf  func(vlog.Position) bool // which checkpoints
	runs  []epoch.Run              // epochs behind the newest checkpoint
	ended bool                     // all of the log goes but for snapshots

	unsettled []epoch.Claim
	newest    epoch.Claim // of an ended log
}

// place names an object of the log.
type place struct {
	kind vlog.Kind
	vlog.Position
}

// view is a plan being made.
type view struct {
	*Collector
	in      scope
	at      []vlog.Position // of all checkpoints, ascending
	asOf    checkpoint.Read
	needed  map[place]bool
	listed  map[vlog.Position]bool // checkpoints all of whose objects are needed
	kept    map[vlog.Position]bool // checkpoints that stay
	rescan  map[vlog.Epoch]bool
	garbage map[string]bool
}

// Plan returns what a collection alone would delete, and deletes nothing.
func (c *Collector) Plan(ctx context.Context) (Plan, error) {
	in, err := c.scope(ctx)
	if err != nil {
		return Plan{}, err
	}
	return c.plan(ctx, in)
}

func (c *Collector) plan(ctx context.Context, in scope) (Plan, error) {
	p, err := c.weigh(ctx, in)
	if fault.Is(err, fault.NotFound) {
		err = fault.As(fault.Busy, err) // it was listed: somebody else collects
	}
	return p, err
}

func (c *Collector) weigh(ctx context.Context, in scope) (Plan, error) {
	v := &view{Collector: c, in: in, needed: map[place]bool{}, listed: map[vlog.Position]bool{}, kept: map[vlog.Position]bool{}, rescan: map[vlog.Epoch]bool{}, garbage: map[string]bool{}}
	if err := v.survey(ctx); err != nil {
		return Plan{}, err
	}
	if in.ended {
		return v.planEnded(ctx)
	}
	// The checkpoints are listed before the claims: of a claimer, who looks for
	// later ones after its claim, and this, at least one sees the other.
	hold, err := v.hold(ctx)
	if err != nil {
		return Plan{}, err
	}
	found, err := v.chooseAsOf(ctx, hold)
	if err != nil || !found {
		return Plan{}, err
	}
	if err := v.need(ctx, v.asOf); err != nil {
		return Plan{}, err
	}
	return v.finish(ctx)
}

// survey lists the checkpoints.
func (v *view) survey(ctx context.Context) error {
	k := v.keys()
	err := list(ctx, v.Log.Store, k.Folder(vlog.CheckpointKind), "", func(o objstore.Object) error {
		p, err := k.ParseObject(vlog.CheckpointKind, o.Key)
		v.at = append(v.at, p)
		return err
	})
	if err != nil {
		return err
	}
	maps.DeleteFunc(v.known, func(p vlog.Position, _ summary) bool {
		_, found := slices.BinarySearchFunc(v.at, p, vlog.Position.Compare)
		return !found
	})
	return nil
}

// hold returns the position from which on claims need everything.
func (v *view) hold(ctx context.Context) (vlog.Position, error) {
	claims, err := v.Claims.Live(ctx, claim.Subject(v.Log.ID.String()))
	if err != nil {
		return vlog.Position{}, err
	}
	hold := vlog.Position{Epoch: vlog.MaxEpoch, Sequence: vlog.MaxSequence}
	for _, c := range claims {
		if c.From.Compare(hold) < 0 {
			hold = c.From
		}
	}
	return hold, nil
}

// chooseAsOf finds the newest checkpoint that is old enough.
func (v *view) chooseAsOf(ctx context.Context, hold vlog.Position) (bool, error) {
	limit := v.Now().Add(-v.Grace)
	for _, p := range slices.Backward(v.at) {
		if !v.in.asOf(p) || p.Compare(hold) > 0 {
			continue
		}
		s, err := v.summary(ctx, p)
		switch {
		case baseIsMissing(err): // stored late; see review
		case err != nil:
			return false, err
		case !s.time.After(limit):
			v.asOf, err = v.read(ctx, p)
			return err == nil, err
		}
	}
	return false, nil
}

// read reads a checkpoint and remembers what is asked for often.
func (v *view) read(ctx context.Context, p vlog.Position) (checkpoint.Read, error) {
	read, err := v.reader().At(ctx, p)
	if err == nil {
		if v.known == nil {
			v.known = map[vlog.Position]summary{}
		}
		v.known[p] = summary{read.Time, read.Base}
	}
	return read, err
}

func (v *view) summary(ctx context.Context, p vlog.Position) (summary, error) {
	if s, ok := v.known[p]; ok {
		return s, nil
	}
	_, err := v.read(ctx, p)
	return v.known[p], err
}

// need keeps what a checkpoint, its snapshots and everything later need.
func (v *view) need(ctx context.Context, asOf checkpoint.Read) error {
	v.keep(asOf)
	if err := v.pin(ctx, asOf); err != nil {
		return err
	}
	for _, p := range v.at {
		if p.Compare(asOf.Position()) <= 0 {
			continue
		}
		s, err := v.summary(ctx, p)
		if err != nil && !(baseIsMissing(err) && p != v.at[len(v.at)-1]) {
			return err
		}
		v.keepBase(p, s.base)
	}
	// What is later needs nothing of before that asOf does not: believed, and seen.
	newest := v.at[len(v.at)-1]
	if newest == asOf.Position() {
		return nil
	}
	read, err := v.read(ctx, newest)
	if err == nil {
		v.keep(read)
	}
	return err
}

// pin keeps what the snapshots of a checkpoint need.
func (v *view) pin(ctx context.Context, of checkpoint.Read) error {
	for _, s := range of.Snapshots {
		err := v.Claims.LetGo(ctx, claim.Subject(s.ID))
		switch {
		case err == nil:
			continue
		case !fault.Is(err, fault.Precondition) && !fault.Is(err, fault.InUse):
			return err
		}
		read, err := v.read(ctx, s.Position)
		if fault.Is(err, fault.NotFound) {
			if v.Claims.LetGo(ctx, claim.Subject(s.ID)) == nil {
				continue // in between, and somebody else collects
			}
			err = fault.As(fault.Corrupt, err)
		}
		if err != nil {
			return fault.Wrap(err, "keep snapshot", string(s.ID))
		}
		v.keep(read)
	}
	return nil
}

func (v *view) keep(read checkpoint.Read) {
	v.keepBase(read.Position(), read.Base)
	v.listed[read.Position()] = true
	for _, o := range read.Objects {
		if p, ok := v.own(o); ok {
			v.needed[p] = true
		}
	}
}

func (v *view) keepBase(p vlog.Position, base *checkpoint.Base) {
	v.kept[p] = true
	if base != nil {
		v.kept[base.Position] = true
	}
}

// own returns where an object is if it is this log's, here. Others' are theirs to
// collect: a claim keeps them.
func (v *view) own(o checkpoint.Object) (place, bool) {
	return place{o.Kind, vlog.Position{Epoch: o.Reign.Epoch, Sequence: o.Sequence}}, o.Reign.Log == v.Log.ID && o.Reign.Repository == ""
}

// finish finds what is not kept.
func (v *view) finish(ctx context.Context) (Plan, error) {
	p := Plan{AsOf: v.asOf.Position()}
	from, others, err := v.newestSwept(ctx)
	if err != nil {
		return Plan{}, err
	}
	p.forgotten = others
	for _, at := range slices.Backward(v.at) {
		if at.Compare(p.AsOf) >= 0 || v.listed[at] {
			continue
		}
		if at.Epoch < from.Epoch && !v.kept[at] {
			v.rescan[at.Epoch] = true // a snapshot's, or stored late by a writer that slept: it may have left more
		}
		adds, err := v.review(ctx, at)
		switch {
		case fault.Is(err, fault.NotFound): // somebody else was here
		case err != nil:
			return Plan{}, err
		case v.kept[at]:
		case adds:
			p.Adding = append(p.Adding, v.keys().Checkpoint(at))
		default:
			p.Checkpoints = append(p.Checkpoints, v.keys().Checkpoint(at))
		}
	}
	if err := v.sweep(ctx, from, &p); err != nil {
		return Plan{}, err
	}
	return v.collected(p), nil
}

func (v *view) collected(p Plan) Plan {
	for key := range v.garbage {
		p.Objects = append(p.Objects, key)
	}
	slices.Sort(p.Objects)
	return p
}

// review finds what a checkpoint lists that nothing needs, and whether it adds to
// another one.
func (v *view) review(ctx context.Context, at vlog.Position) (bool, error) {
	read, err := v.read(ctx, at)
	if baseIsMissing(err) {
		// A request for it came late, or a fenced writer did. What it lists that was not
		// collected with its base is of its epoch.
		v.rescan[at.Epoch] = true
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, o := range read.Objects {
		if p, ok := v.own(o); ok && !v.needed[p] {
			v.garbage[o.Key()] = true
		}
	}
	return read.Base != nil, nil
}

// baseIsMissing tells a checkpoint whose base is gone from one that is damaged.
func baseIsMissing(err error) bool {
	if !fault.Is(err, fault.Corrupt) {
		return false
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if f, ok := err.(*fault.Error); ok && f.Kind == fault.NotFound { //nolint:errorlint // each link of the chain is looked at
			return true
		}
	}
	return false
}
