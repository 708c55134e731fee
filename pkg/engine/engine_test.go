package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

const testBlocks = 4096

// house is a store, a node's disk and an engine on it.
type house struct {
	testing.TB
	ctx   context.Context
	store *memory.Store
	disk  *simdisk.Disk
	e     *Engine
	log   vlog.LogID
	id    volume.ID
}

func newHouse(t testing.TB) *house {
	h := &house{TB: t, ctx: t.Context(), store: memory.New(), disk: &simdisk.Disk{}, log: vlog.NewLogID(), id: volume.NewID()}
	must(t, Create(h.ctx, h.store, h.log, epoch.Base{Blocks: testBlocks, Time: time.Now()}))
	h.engine()
	t.Cleanup(func() { must(t, h.e.Close()) })
	return h
}

func (h *house) engine() {
	e, err := New(Options{Storage: h.disk, MemoryBytes: MinMemory})
	must(h, err)
	h.e = e
}

func (h *house) options() OpenOptions {
	return OpenOptions{
		LogOptions: LogOptions{Store: h.store, Log: h.log}, Volume: h.id, Blocks: testBlocks, Owner: "node-1",
		Journal: "/j", JournalBytes: 16 << 20, Durability: JournalDurability,
	}
}

func (h *house) open() *Volume {
	h.Helper()
	v, err := h.e.Open(h.ctx, h.options())
	must(h, err)
	return v
}

// content is what write number n writes to block b.
func content(b vlog.Block, n uint64) []byte {
	p := binary.LittleEndian.AppendUint64(nil, uint64(b))
	return bytes.Repeat(binary.LittleEndian.AppendUint64(p, n), vlog.BlockSize/16)
}

func (h *house) write(v *Volume, b vlog.Block, n uint64) {
	h.Helper()
	must(h, v.WriteAt(h.ctx, content(b, n), int64(b)*vlog.BlockSize))
}

type readerAt interface {
	ReadAt(ctx context.Context, p []byte, off int64) error
}

func (h *house) has(v readerAt, b vlog.Block, n uint64) {
	h.Helper()
	p := make([]byte, vlog.BlockSize)
	must(h, v.ReadAt(h.ctx, p, int64(b)*vlog.BlockSize))
	wanted := content(b, n)
	if n == 0 {
		clear(wanted)
	}
	if !bytes.Equal(p, wanted) {
		h.Errorf("block %d: got %x, want write %d", b, p[:16], n)
	}
}

// TestLife: written, read from the journal, uploaded, read from the store, closed,
// opened again, read, abandoned, recovered.
func TestLife(t *testing.T) {
	h := newHouse(t)
	v := h.open()
	for b := range vlog.Block(300) {
		h.write(v, b*3, 1)
	}
	must(t, v.Zero(h.ctx, 30*vlog.BlockSize, 100*vlog.BlockSize, true))
	h.has(v, 3, 1)
	h.has(v, 33, 0)
	must(t, v.Flush(h.ctx))
	must(t, v.Sync(h.ctx))
	h.has(v, 3, 1)
	h.has(v, 33, 0)
	h.write(v, 33, 2)
	h.has(v, 33, 2)
	s, err := v.Snapshot(h.ctx, volume.NewSnapshotID())
	must(t, err)
	h.write(v, 33, 3)
	again, err := v.Snapshot(h.ctx, s.ID)
	must(t, err)
	if again != s {
		t.Errorf("snapshot again: got %+v, want %+v", again, s)
	}
	must(t, v.Close(h.ctx))

	v = h.open()
	h.has(v, 33, 3)
	h.has(v, 3, 1)
	again, err = v.Snapshot(h.ctx, s.ID)
	must(t, err)
	if again.Head != s.Head || again.Checkpoint != s.Checkpoint {
		t.Errorf("snapshot in another life: got %+v, want %+v", again, s)
	}
	h.write(v, 5, 4)
	must(t, v.Sync(h.ctx))
	h.write(v, 6, 5)
	v.Abandon()

	v = h.open()
	h.has(v, 5, 4)
	h.has(v, 6, 5)
	w, err := h.e.View(h.ctx, ViewOptions{LogOptions: h.options().LogOptions, At: s.Head.Position, Checkpoint: s.Checkpoint})
	must(t, err)
	h.has(w, 33, 2)
	h.has(w, 5, 0)
	h.has(w, 6, 1)
	w.Close()
	must(t, v.Close(h.ctx))
}

// TestAnotherNode: a node that acknowledged on its journal is waited for; with
// leave to go back, what counts is there, and the first node is fenced.
func TestAnotherNode(t *testing.T) {
	h := newHouse(t)
	v := h.open()
	h.write(v, 1, 1)
	must(t, v.Sync(h.ctx))
	h.write(v, 1, 2)

	o := h.options()
	o.Owner, o.Journal = "node-2", "/j2"
	_, err := h.e.Open(h.ctx, o)
	want(t, "open on another node", err, fault.InUse)
	o.TakeOver = true
	_, err = h.e.Open(h.ctx, o)
	want(t, "take over", err, fault.Precondition)
	o.Rollback, o.Stopped = true, func(context.Context, string) bool { return true }
	other, err := h.e.Open(h.ctx, o)
	must(t, err)
	h.has(other, 1, 1)
	if other.State().Dropped == "" {
		t.Error("nothing is said of what was dropped")
	}
	want(t, "sync of the first node", v.Sync(h.ctx), fault.Fenced)
	want(t, "read of the first node", v.ReadAt(h.ctx, make([]byte, 4096), 4096), fault.Fenced)
	want(t, "write of the first node", v.WriteAt(h.ctx, make([]byte, 4096), 4096), fault.Fenced)
	v.Abandon()
	h.write(other, 1, 3)
	must(t, other.Close(h.ctx))

	v = h.open()
	h.has(v, 1, 3)
	if kept := v.State().Kept; len(kept) != 1 {
		t.Errorf("kept journals: %q, want one", kept)
	}
	must(t, v.Close(h.ctx))
}

// TestSectors: writes of parts of blocks leave the rest as it was.
func TestSectors(t *testing.T) {
	h := newHouse(t)
	v := h.open()
	h.write(v, 0, 1)
	h.write(v, 1, 1)
	must(t, v.WriteAt(h.ctx, bytes.Repeat([]byte{7}, 1024), vlog.BlockSize-512))
	p := make([]byte, 2*vlog.BlockSize)
	must(t, v.ReadAt(h.ctx, p, 0))
	wanted := append(content(0, 1), content(1, 1)...)
	copy(wanted[vlog.BlockSize-512:], bytes.Repeat([]byte{7}, 1024))
	if !bytes.Equal(p, wanted) {
		t.Error("another content")
	}
	must(t, v.Close(h.ctx))
}
