package object

import (
	"context"
	"encoding/hex"
	"errors"
	"iter"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

type (
	volumeRecord   = repository.Revision[repository.ObjectVolume]
	snapshotRecord = repository.Revision[repository.ObjectSnapshot]
)

// firstLog is the log that a volume begins with: it has the volume's own bits.
func firstLog(id volume.ID) string { return "l-" + string(id)[2:] }

// ofLog is the volume whose first log it is.
func ofLog(log string) volume.ID { return volume.ID("v-" + log[2:]) }

// logOf returns the log of a volume's record. Corrupt if it has none.
func logOf(v repository.ObjectVolume) (vlog.LogID, error) {
	id, err := vlog.ParseLogID(v.Log)
	return id, fault.As(fault.Corrupt, err)
}

// volume returns the record of a volume that is there. NotFound.
func (s *site) volume(ctx context.Context, id volume.ID) (volumeRecord, error) {
	r, err := s.Repository.ObjectVolumes.Latest(ctx, string(id))
	if err != nil {
		return volumeRecord{}, err
	}
	if r.Value.State != repository.Ready {
		return r, fault.New(fault.NotFound, "volume %s: it is %s", id, r.Value.State)
	}
	return r, nil
}

// snapshot returns the record of a snapshot that is there. NotFound.
func (s *site) snapshot(ctx context.Context, id volume.SnapshotID) (snapshotRecord, error) {
	r, err := s.Repository.ObjectSnapshots.Latest(ctx, string(id))
	if err != nil {
		return snapshotRecord{}, err
	}
	if r.Value.State != repository.Ready {
		return r, fault.New(fault.NotFound, "snapshot %s: it is %s", id, r.Value.State)
	}
	return r, nil
}

// head returns where a snapshot is, and the digest of its checkpoint. Corrupt.
func head(s repository.ObjectSnapshot) (log vlog.LogID, h vlog.Head, checkpoint vlog.Digest, err error) {
	if log, err = vlog.ParseLogID(s.Log); err == nil {
		err = errors.Join(unhex(h.Chain[:], s.Chain), unhex(checkpoint[:], s.Checkpoint))
	}
	h.Position = vlog.Position{Epoch: s.Epoch, Sequence: s.Sequence}
	if err == nil && !h.Valid() {
		err = fault.New(fault.Corrupt, "position %s: want one of a log", h.Position)
	}
	return log, h, checkpoint, fault.Wrap(fault.As(fault.Corrupt, err), "record of snapshot", string(s.ID))
}

func unhex(into []byte, text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(into) {
		return fault.New(fault.Corrupt, "%.80q: want %d hexadecimal digits", text, 2*len(into))
	}
	copy(into, b)
	return nil
}

// base is what a log starts from that is cloned from a snapshot.
func base(s repository.ObjectSnapshot, blocks vlog.Block) (epoch.Base, error) {
	log, h, checkpoint, err := head(s)
	return epoch.Base{Blocks: blocks, From: log, Head: h, Checkpoint: checkpoint}, err
}

func blocks(sizeBytes int64) vlog.Block { return vlog.Block(sizeBytes / vlog.BlockSize) }

// Volume implements backend.Backend.
func (b *Backend) Volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	v, err := b.lookUp(ctx, id)
	return v, fault.Wrap(err, "look up volume", string(id))
}

func (b *Backend) lookUp(ctx context.Context, id volume.ID) (backend.Volume, error) {
	if l, ok := b.look(id); ok && l.device.Path != "" && l.record.ID == id {
		return b.reply(l.record), nil
	}
	s, err := b.site(ctx)
	if err != nil {
		return backend.Volume{}, err
	}
	r, err := s.volume(ctx, id)
	if err != nil {
		return backend.Volume{}, err
	}
	return b.reply(r.Value), nil
}

// reply renders a volume as the contract has it.
func (b *Backend) reply(v repository.ObjectVolume) backend.Volume {
	r := backend.Volume{ID: v.ID, SizeBytes: v.SizeBytes, Class: v.Class, Source: v.Request.Source, Filesystem: v.Files, CreatedAt: v.Created}
	if l, ok := b.look(v.ID); ok {
		r.Device = l.device.Path
	}
	return r
}

// Volumes implements backend.Backend.
func (b *Backend) Volumes(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return func(yield func(backend.Volume, error) bool) {
		s, err := b.site(ctx)
		if err != nil {
			yield(backend.Volume{}, err)
			return
		}
		for after := ""; ; {
			page, next, err := s.Repository.ObjectVolumes.List(ctx, after, 0)
			if err != nil {
				yield(backend.Volume{}, fault.Wrap(err, "list volumes", ""))
				return
			}
			for _, r := range page {
				if r.Value.State == repository.Ready && !yield(b.reply(r.Value), nil) {
					return
				}
			}
			if after = next; after == "" {
				return
			}
		}
	}
}

// Snapshot implements backend.Backend.
func (b *Backend) Snapshot(ctx context.Context, id volume.SnapshotID) (backend.Snapshot, error) {
	s, err := b.site(ctx)
	if err == nil {
		var r snapshotRecord
		if r, err = s.snapshot(ctx, id); err == nil {
			return replySnapshot(r.Value), nil
		}
	}
	return backend.Snapshot{}, fault.Wrap(err, "look up snapshot", string(id))
}

func replySnapshot(s repository.ObjectSnapshot) backend.Snapshot {
	return backend.Snapshot{
		ID: s.ID, Volume: s.Volume, SizeBytes: int64(s.Blocks) * vlog.BlockSize, Consistency: s.Consistency,
		Filesystem: s.Files, CreatedAt: s.Cut, Pause: s.Pause,
	}
}
