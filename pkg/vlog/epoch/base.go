package epoch

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/volume"
)

const baseBody = 128 + 1 + 28

var baseFormat = wire.Format{Magic: "hlkbase\n", Version: 1, MaxBytes: baseBody}

// Base is what a log starts from: nothing, or a position of another log.
type Base struct {
	Blocks vlog.Block // of the volume at first
	Time   time.Time  // for people

	// Of a log that starts from another one; all zero if it does not.
	From       vlog.LogID
	Repository volume.RepositoryID // where From is; empty: where this log is
	Head       vlog.Head
	Checkpoint vlog.Digest // of the checkpoint at Head's position, in From
}

// Start returns where a walk through the log begins that has no checkpoint yet.
func (b Base) Start() Start { return Start{Head: vlog.Head{Chain: b.Head.Chain}} }

func (b Base) encode(log vlog.LogID) []byte {
	body := append(make([]byte, 0, baseBody), log[:]...)
	body = append(body, b.From[:]...)
	body = binary.LittleEndian.AppendUint64(body, uint64(b.Head.Epoch))
	body = binary.LittleEndian.AppendUint64(body, uint64(b.Head.Sequence))
	body = append(body, b.Head.Chain[:]...)
	body = append(body, b.Checkpoint[:]...)
	body = binary.LittleEndian.AppendUint64(body, uint64(b.Blocks))
	body = binary.LittleEndian.AppendUint64(body, uint64(b.Time.UnixNano()))
	return baseFormat.Append(nil, wire.AppendString(body, string(b.Repository)))
}

func decodeBase(object []byte, log vlog.LogID) (b Base, err error) {
	key := vlog.Keys{Log: log}.Base()
	box, err := whole(baseFormat, object, key)
	if err != nil {
		return b, err
	}
	d := wire.NewDecoder(box, key)
	var got vlog.LogID
	d.Fixed(got[:])
	d.Fixed(b.From[:])
	b.Head.Epoch, b.Head.Sequence = vlog.Epoch(d.U64()), vlog.Sequence(d.U64())
	d.Fixed(b.Head.Chain[:])
	d.Fixed(b.Checkpoint[:])
	b.Blocks = vlog.Block(d.U64())
	b.Time = time.Unix(0, int64(d.U64())).UTC()
	b.Repository = volume.RepositoryID(d.String("repository", 28))
	if got != log {
		d.Fail("got the base of %s, want of %s", got, log)
	}
	if err := b.validate(); err != nil {
		d.Fail("%w", err)
	}
	return b, d.End()
}

func (b Base) validate() error {
	if _, err := volume.ParseRepositoryID(string(b.Repository)); err != nil && b.Repository != "" {
		return fault.As(fault.Internal, err)
	}
	none := Base{Blocks: b.Blocks, Time: b.Time}
	if b.From == (vlog.LogID{}) && b != none || b.From != (vlog.LogID{}) && !b.Head.Valid() || b.Blocks > vlog.MaxBlocks {
		return fault.New(fault.Internal, "base of %d blocks on %s of log %s: want at most %d blocks, and a position of a log or neither", b.Blocks, b.Head.Position, b.From, vlog.MaxBlocks)
	}
	return nil
}

// Create makes the log. It may be called again with the same base; Exists if the
// log has another one.
func (l Log) Create(ctx context.Context, b Base) error {
	if err := b.validate(); err != nil {
		return err
	}
	key, object := l.keys().Base(), b.encode(l.ID)
	err := l.Store.Create(ctx, key, object)
	if !fault.Is(err, fault.Exists) {
		return fault.Wrap(err, "create log", key)
	}
	there, e := l.Store.Get(ctx, key)
	switch {
	case e != nil:
		return fault.Wrap(e, "create log", key)
	case bytes.Equal(there, object):
		return nil
	}
	return fault.Wrap(err, "create log", key)
}

// Base reads what the log starts from. NotFound if there is no such log.
func (l Log) Base(ctx context.Context) (Base, error) {
	key := l.keys().Base()
	object, err := l.Store.Get(ctx, key)
	if err != nil {
		return Base{}, fault.Wrap(err, "read", key)
	}
	return decodeBase(object, l.ID)
}
