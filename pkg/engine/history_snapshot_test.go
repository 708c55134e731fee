package engine_test

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

// snapshot is a snapshot that is complete, and what is in it for ever.
type snapshot struct {
	engine.Snapshot
	content state
	gone    bool
}

// cut cuts a snapshot that is then taken: what begins later is not in it.
func (l *life) cut(id volume.SnapshotID) {
	p := l.b.o.begin("cut "+string(id[:8]), 0, 0, 0)
	err := l.v.Cut(l.g.ctx, id)
	l.b.o.end(p, err)
	client{life: l}.ended(p, err)
	if _, again := l.b.tried[id]; !again {
		l.b.tried[id] = p.begin
	}
	if err == nil {
		l.cuts[id] = p.end
		time.Sleep(time.Duration(l.b.w.rand.IntN(1000)) * time.Microsecond)
	}
}

// snapshot takes a snapshot, and checks what is in it.
func (l *life) snapshot(id volume.SnapshotID) {
	b, w := l.b, l.b.w
	p := b.o.begin("snapshot "+string(id[:8]), 0, 0, 0)
	since, again := b.tried[id]
	if !again {
		since = p.begin
		b.tried[id] = since
	}
	blocks := b.blocks
	s, err := l.v.Snapshot(l.g.ctx, id)
	b.o.end(p, err)
	client{life: l}.ended(p, err)
	if err != nil {
		return
	}
	b.counted(since)
	if s.ID != id || s.Blocks > blocks || !again && s.Blocks != blocks {
		w.failf("%s: got snapshot %s of %d blocks, want %s of %d", l, s.ID, s.Blocks, id, blocks)
	}
	content, err := b.view(s)
	if err != nil {
		w.failf("%s: snapshot %s: %v", b.name, id, err)
		return
	}
	until := p.end
	if at, ok := l.cuts[id]; ok {
		until = at
	}
	cut, err := b.o.cut(content, since, until)
	w.logf("%s: snapshot %s at %s has all up to %d", b.name, id[:8], s.Head.Position, cut)
	if err != nil {
		w.failf("%s: snapshot %s has %v", b.name, id, err)
	}
	delete(b.tried, id)
	b.snapshots = append(b.snapshots, &snapshot{Snapshot: s, content: content})
	w.count("snapshot")
}

// view reads a snapshot, as anybody may anywhere.
func (b *branch) view(s engine.Snapshot) (state, error) {
	e := b.w.engine()
	defer b.w.rest(e)
	v, err := e.View(context.Background(), engine.ViewOptions{
		LogOptions: engine.LogOptions{Store: b.w.memory, Log: b.log, Keys: b.keys}, At: s.Head.Position, Checkpoint: s.Checkpoint,
	})
	if err != nil {
		return nil, err
	}
	defer v.Close()
	if v.Head() != s.Head || v.Blocks() != s.Blocks {
		return nil, fmt.Errorf("got a view of %d blocks at %v, want %d at %v", v.Blocks(), v.Head(), s.Blocks, s.Head)
	}
	return everything(context.Background(), v, s.Blocks)
}

// watch reads the newest state while its writer goes on and collects: who reads
// without a claim has the grace period.
func (l *life) watch() {
	b, w, ctx := l.b, l.b.w, context.Background()
	e, floor := w.engine(), b.o.counted
	defer w.rest(e)
	v, err := e.View(ctx, engine.ViewOptions{LogOptions: engine.LogOptions{Store: w.memory, Log: b.log, Keys: b.keys}})
	if err != nil {
		w.failf("%s: view of what is newest: %v", b.name, err)
		return
	}
	defer v.Close()
	before, err := everything(ctx, v, v.Blocks())
	if err == nil {
		_, err = b.o.cut(before, floor, b.o.tick())
	}
	if err != nil {
		w.failf("%s: view of what is newest, %v: %v", b.name, v.Head(), err)
		return
	}
	for until := time.Now().Add(grace * 3 / 4); time.Now().Before(until) && !l.g.dead() && !w.over(); {
		client{l, w.rand}.write(0, 16*vlog.BlockSize/2)
		l.do("checkpoint", l.v.Checkpoint)
		_, _ = l.v.Collect(l.g.ctx)
		time.Sleep(grace / 4)
	}
	if after, err := everything(ctx, v, v.Blocks()); err != nil || !maps.Equal(before, after) {
		w.failf("%s: view of what was newest, %v, later: %v; %v, want %v", b.name, v.Head(), err, after, before)
	}
	w.count("view")
}

// look sees that a snapshot is what it was.
func (b *branch) look(s *snapshot) {
	got, err := b.view(s.Snapshot)
	if err == nil && !maps.Equal(got, s.content) {
		err = fmt.Errorf("got %v, want %v", got, s.content)
	}
	if err != nil {
		b.w.failf("%s: snapshot %s later: %v", b.name, s.ID, err)
	}
	b.w.count("snapshot seen again")
}

// again asks for a snapshot that is complete.
func (l *life) again(s *snapshot) {
	got, err := l.v.Snapshot(l.g.ctx, s.ID)
	if err != nil && !l.passing(err) || err == nil && (got.Head != s.Head || got.Checkpoint != s.Checkpoint || got.Blocks != s.Blocks) {
		l.b.w.failf("%s: snapshot %s again: got %+v, %v, want %+v", l, s.ID, got, err, s.Snapshot)
	}
}

// clone makes a volume of a snapshot.
func (b *branch) clone(s *snapshot) *branch {
	w, ctx := b.w, context.Background()
	c := w.branch(epoch.Base{From: b.log, Head: s.Head, Checkpoint: s.Checkpoint, Blocks: s.Blocks, Time: time.Now()}, s.content, b)
	err := claim.Claims{Store: w.memory, Now: time.Now}.Take(ctx, claim.Claim{Subject: claim.Subject(s.ID), Dependent: c.log.String(), Nonce: vlog.NewNonce()}, func(context.Context) error { return nil })
	if err != nil {
		w.failf("claim of %s: %v", s.ID, err)
	}
	w.logf("%s: is a clone of snapshot %s of %s", c.name, s.ID[:8], b.name)
	w.count("clone")
	return c
}

// forget has a snapshot condemned; it goes as soon as no clone needs it.
func (b *branch) forget(s *snapshot) {
	w, ctx := b.w, context.Background()
	c := claim.Claims{Store: w.memory, Now: time.Now}
	d, err := c.Trash(ctx, claim.Subject(s.ID), "test")
	if err == nil {
		err = c.Condemn(ctx, d, 0)
	}
	if err != nil {
		w.failf("condemn %s: %v", s.ID, err)
	}
	s.gone = true
	err = c.LetGo(ctx, claim.Subject(s.ID))
	w.logf("%s: snapshot %s is condemned, and let go: %v", b.name, s.ID[:8], err)
	if err == nil && b.at != nil {
		b.at.v.Forget(s.ID)
		w.count("forgotten")
	}
}
