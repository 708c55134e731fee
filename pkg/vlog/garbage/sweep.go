package garbage

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

const sweptBody = 48

var sweptFormat = wire.Format{Magic: "hlkswep\n", Version: 1, MaxBytes: sweptBody}

// swept is up to where a log was searched for what no checkpoint ever listed.
type swept struct {
	vlog.Position
	nextTable vlog.Sequence // of the position's epoch
	time      time.Time
}

func (s swept) encode(log vlog.LogID) []byte {
	b := append(make([]byte, 0, sweptBody), log[:]...)
	for _, v := range []uint64{uint64(s.Epoch), uint64(s.Sequence), uint64(s.nextTable), uint64(s.time.UnixNano())} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return sweptFormat.Append(nil, b)
}

func decodeSwept(object []byte, log vlog.LogID, at vlog.Position) (s swept, err error) {
	key := vlog.Keys{Log: log}.Object(vlog.SweptKind, at)
	box, err := sweptFormat.Open(object, key)
	switch {
	case err != nil:
		return s, err
	case box.Size != len(object):
		return s, fault.New(fault.Corrupt, "%s at %d: got %d more bytes, want the end", key, box.Size, len(object)-box.Size)
	}
	d := wire.NewDecoder(box, key)
	var got vlog.LogID
	d.Fixed(got[:])
	s.Epoch, s.Sequence, s.nextTable = vlog.Epoch(d.U64()), vlog.Sequence(d.U64()), vlog.Sequence(d.U64())
	s.time = time.Unix(0, int64(d.U64())).UTC()
	if got != log || s.Position != at || s.nextTable > vlog.MaxSequence+1 {
		d.Fail("got %s of %s, next table %d: want %s of %s", s.Position, got, s.nextTable, at, log)
	}
	return s, d.End()
}

// newestSwept reads the newest record, and returns the keys of the others.
func (v *view) newestSwept(ctx context.Context) (s swept, others []string, err error) {
	k := v.keys()
	if err := list(ctx, v.Log.Store, k.Folder(vlog.SweptKind), "", func(o objstore.Object) error {
		others = append(others, o.Key)
		return nil
	}); err != nil || len(others) == 0 {
		return s, nil, err
	}
	key := others[len(others)-1]
	at, err := k.ParseObject(vlog.SweptKind, key)
	if err != nil {
		return s, nil, err
	}
	object, err := v.Log.Store.Get(ctx, key)
	if err != nil {
		return s, nil, fault.Wrap(err, "read", key)
	}
	s, err = decodeSwept(object, v.Log.ID, at)
	return s, others[:len(others)-1], err
}

// sweep finds what no checkpoint ever listed: segments that died between two of
// them, tables of one that was not published, what was stored beyond a close.
func (v *view) sweep(ctx context.Context, from swept, p *Plan) error {
	to := swept{Position: p.AsOf, nextTable: v.asOf.NextTable, time: v.Now().UTC()}
	for e := max(from.Epoch, 1); e <= to.Epoch && from.Compare(to.Position) < 0; e++ {
		low, lowTable := vlog.Sequence(0), vlog.Sequence(0)
		if e == from.Epoch {
			low, lowTable = from.Sequence, from.nextTable
		}
		if err := v.scanTo(ctx, e, low+1, lowTable, to); err != nil {
			return err
		}
	}
	if from.Compare(to.Position) < 0 {
		p.swept = to
		if from.Epoch > 0 {
			p.forgotten = append(p.forgotten, v.keys().Object(vlog.SweptKind, from.Position))
		}
	}
	for e := range v.rescan {
		if err := v.scanTo(ctx, e, 0, 0, to); err != nil {
			return err
		}
	}
	return v.beyond(ctx)
}

// scanTo finds what nothing needs of an epoch, from a segment and a table on, as
// far as the position to covers it.
func (v *view) scanTo(ctx context.Context, e vlog.Epoch, first, table vlog.Sequence, to swept) error {
	segments, tables := vlog.MaxSequence, vlog.MaxSequence+1
	if e == to.Epoch {
		segments, tables = to.Sequence, to.nextTable
	}
	if err := v.scan(ctx, e, vlog.SegmentKind, first, segments+1); err != nil {
		return err
	}
	return v.scan(ctx, e, vlog.TableKind, table, tables)
}

// beyond finds what was stored beyond the close of the epochs that no later
// checkpoint has left behind.
func (v *view) beyond(ctx context.Context) error {
	for _, r := range v.in.runs {
		if r.Marker == nil || r.Epoch < v.asOf.Reign.Epoch || r.Marker.Time.After(v.Now().Add(-v.Grace)) {
			continue
		}
		if err := v.scan(ctx, r.Epoch, vlog.SegmentKind, r.Marker.Sequence+1, vlog.MaxSequence+1); err != nil {
			return err
		}
	}
	return nil
}

// scan lists an epoch's objects from a sequence to before another one, and finds
// those that nothing needs. What is as small as a marker is one: those stay.
func (v *view) scan(ctx context.Context, e vlog.Epoch, kind vlog.Kind, from, before vlog.Sequence) error {
	if from >= before {
		return nil
	}
	k := v.keys()
	after := ""
	if from > 0 {
		after = k.Object(kind, vlog.Position{Epoch: e, Sequence: from - 1})
	}
	err := list(ctx, v.Log.Store, k.OfEpoch(kind, e), after, func(o objstore.Object) error {
		p, err := k.ParseObject(kind, o.Key)
		switch {
		case err != nil:
			return err
		case p.Sequence >= before:
			return errEnd
		case kind == vlog.SegmentKind && o.SizeBytes < segment.MinBytes:
		case !v.needed[place{kind, p}]:
			v.garbage[o.Key] = true
		}
		return nil
	})
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

var errEnd = errors.New("the end")

// remember stores how far a plan that was carried out had swept. It spares work
// only: nothing depends on it.
func (c *Collector) remember(ctx context.Context, p Plan) error {
	if p.swept.Epoch > 0 {
		key := c.keys().Object(vlog.SweptKind, p.swept.Position)
		if err := c.Log.Store.Create(ctx, key, p.swept.encode(c.Log.ID)); err != nil && !fault.Is(err, fault.Exists) {
			return fault.Wrap(err, "remember", key)
		}
	}
	for len(p.forgotten) > 0 {
		n := min(len(p.forgotten), maxBatch)
		if err := c.Log.Store.Delete(ctx, p.forgotten[:n]...); err != nil {
			return fault.Wrap(err, "forget", p.forgotten[0])
		}
		p.forgotten = p.forgotten[n:]
	}
	return nil
}
