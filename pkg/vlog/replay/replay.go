// Package replay applies segments to an extent table: what a writer does with a
// segment that begins to count, and what an opener does with those behind the
// checkpoint, in the order of the log. Both do the same, so that the table is a
// function of the log (I1 and I2 of package vlog).
package replay

import (
	"context"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// Options say how the objects that a segment speaks of are numbered.
type Options struct {
	// Number is the segment's own number, free until now.
	Number uint32
	// Find returns the number of a segment that blocks were moved from; false if
	// the object list does not have it, since then nothing is there any more.
	Find func(segment.Source) (uint32, bool)
}

// Follows reports, as Corrupt, a segment that is not the one behind head: its slot
// and its chain.
func Follows(head vlog.Head, t segment.Tail) error {
	if t.Position() != head.Position.Next() || t.Previous != head.Chain {
		return fault.New(fault.Corrupt, "%s: follows %s: got it behind %s with chain %s, want chain %s", t.Key(), head.Position, t.Position(), t.Previous, head.Chain)
	}
	return nil
}

// Apply applies a segment's index, whole, also beyond the table's memory limit;
// see table.Full. An error is of a page that could not be loaded, and leaves a
// part applied: the call can be repeated with the same options, but nothing else
// may be applied and no checkpoint made in between.
func Apply(ctx context.Context, t *table.Table, x segment.Index, o Options) error {
	for _, e := range x.Entries {
		var err error
		switch e.Kind {
		case segment.Data:
			err = t.Set(ctx, e.First, int(e.Count), e.Pointer(o.Number, 0))
		case segment.Zeros, segment.Discarded:
			err = t.Zero(ctx, e.First, e.Count)
		case segment.Move:
			err = move(ctx, t, x, e, o)
		default:
			err = fault.New(fault.Internal, "entry of kind %d", e.Kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// move moves the blocks that still are where they were. One that a repeated call
// finds moved already is no longer there, and stays.
func move(ctx context.Context, t *table.Table, x segment.Index, e segment.Entry, o Options) error {
	at := 0
	for _, old := range e.From {
		number, known := o.Find(x.Sources[old.Source])
		for i := range old.Count {
			if known {
				// The stored length of the old frame is not told, nor looked at.
				was := vlog.NewPointer(number, old.Offset, vlog.Unit, old.Index+i)
				if _, err := t.Move(ctx, e.First+vlog.Block(at), was, e.Pointer(o.Number, at)); err != nil {
					return err
				}
			}
			at++
		}
	}
	return nil
}
