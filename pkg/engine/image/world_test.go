package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// shop is a store that counts ranged reads, and does with replies what it is told.
type shop struct {
	objstore.Store
	mu        sync.Mutex
	gets      int
	now, most int // reads under way
	reply     func(key string, off int64, b []byte, err error) ([]byte, error)
	before    func(ctx context.Context) error
}

func (s *shop) GetRange(ctx context.Context, key string, off, length int64) ([]byte, error) {
	s.mu.Lock()
	s.gets++
	s.now++
	s.most = max(s.most, s.now)
	before, reply := s.before, s.reply
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	b, err := s.Store.GetRange(ctx, key, off, length)
	if reply != nil {
		return reply(key, off, b, err)
	}
	return b, err
}

// count returns the ranged reads that f makes.
func (s *shop) count(f func()) int {
	s.mu.Lock()
	s.gets, s.most = 0, 0
	s.mu.Unlock()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets
}

// world is a log, what its blocks are, and the image of it that its writer has.
type world struct {
	tb
	ctx    context.Context
	store  *shop
	o      Options
	key    *frame.DataKey
	reign  frame.Reign
	m      *Image
	last   vlog.Sequence
	want   map[vlog.Block]uint64 // the write that a block has, none for zeros
	writes uint64
	index  map[vlog.Position]segment.Tail // of the segments
	// Of the last checkpoint: its position, and the objects that it lists.
	published vlog.Position
	listed    map[string]bool
}

const worldBlocks = 3 * table.DirectoryBlocks

func newWorld(t tb, secret string, codec *frame.Codec) *world {
	w := &world{
		tb: t, ctx: context.Background(), store: &shop{Store: memory.New()}, want: map[vlog.Block]uint64{}, index: map[vlog.Position]segment.Tail{},
	}
	if secret != "" {
		key, err := frame.NewDataKey([]byte(secret))
		must(t, err)
		w.key = key
	}
	w.o = Options{
		Store: w.store, Log: vlog.NewLogID(), Codec: codec, LimitBytes: 1 << 20,
		Key: func(id frame.KeyID) (*frame.DataKey, error) {
			switch id {
			case frame.KeyID{}:
				return nil, nil
			case w.key.ID():
				return w.key, nil
			}
			return nil, fault.New(fault.Precondition, "another key")
		},
		ReadTimeout: func() time.Duration { return time.Minute },
	}
	m, err := New(w.o, worldBlocks)
	must(t, err)
	w.m = m
	w.begin()
	return w
}

func newCodec(t *testing.T) *frame.Codec {
	codec, err := frame.NewCodec(2)
	must(t, err)
	t.Cleanup(codec.Close)
	return codec
}

// begin begins an epoch.
func (w *world) begin() {
	w.reign = frame.Reign{Log: w.o.Log, Epoch: w.reign.Epoch + 1, Nonce: vlog.Nonce{byte(w.reign.Epoch + 1), 5}}
	w.last = 0
	w.m.SetHead(vlog.Head{Position: vlog.Position{Epoch: w.reign.Epoch}, Chain: w.m.Head().Chain.Begin(w.o.Log, w.reign.Epoch, w.reign.Nonce)})
}

// content is what a write puts into a block; it does not compress well.
func content(b vlog.Block, write uint64) []byte {
	p := make([]byte, vlog.BlockSize)
	x := uint64(b)*0x9e3779b97f4a7c15 + write
	for i := 0; i < len(p); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(p[i:], x)
	}
	binary.LittleEndian.PutUint64(p, write)
	return p
}

// segment forms, stores and applies a segment.
func (w *world) segment(fill func(x *segment.Writer)) {
	w.Helper()
	must(w, w.m.Apply(w.ctx, w.form(fill)))
}

// form forms and stores a segment.
func (w *world) form(fill func(x *segment.Writer)) Segment {
	w.Helper()
	cipher, err := w.m.Cipher(vlog.SegmentKind, w.reign, w.key.ID())
	must(w, err)
	w.last++
	x, err := segment.NewWriter(cipher, segment.Info{Identity: segment.Identity{Reign: w.reign, Sequence: w.last}, Blocks: worldBlocks, Previous: w.m.Head().Chain}, nil)
	must(w, err)
	fill(x)
	f := x.Finish()
	must(w, w.store.Create(w.ctx, f.Key(), f.Object))
	w.index[f.Position()] = segment.Tail{Info: f.Info, Index: f.Index, Digest: f.Digest, Chain: f.Chain}
	return Segment{Info: f.Info, Index: f.Index, Digest: f.Digest, Chain: f.Chain, SizeBytes: int64(len(f.Object))}
}

// data writes blocks, in frames.
func (w *world) data(first vlog.Block, count int) func(x *segment.Writer) {
	return func(x *segment.Writer) {
		for count > 0 {
			n := min(count, vlog.FrameBlocks)
			var payload []byte
			for i := range vlog.Block(n) {
				w.writes++
				w.want[first+i] = w.writes
				payload = append(payload, content(first+i, w.writes)...)
			}
			must(w, x.Data(first, payload, frame.Zstd))
			first, count = first+vlog.Block(n), count-n
		}
	}
}

// zero makes blocks zeros.
func (w *world) zero(first vlog.Block, count uint64) func(x *segment.Writer) {
	return func(x *segment.Writer) {
		maps.DeleteFunc(w.want, func(b vlog.Block, _ uint64) bool { return b >= first && b < first+vlog.Block(count) })
		must(w, x.Zero(segment.Discarded, first, count))
	}
}

func (w *world) writer() Writer {
	return Writer{
		Reign: w.reign, KeyID: w.key.ID(), With: frame.Zstd, Now: time.Unix(1, 0),
		Store: func(ctx context.Context, key string, object []byte) error { return w.store.Create(ctx, key, object) },
	}
}

// checkpoint makes and publishes one, and lets everything go that it does not list.
func (w *world) checkpoint() Prepared {
	w.Helper()
	p, err := w.m.Checkpoint(w.ctx, w.writer())
	must(w, err)
	must(w, checkpoint.Publish(w.ctx, w.store, p.Encoded))
	w.m.Published(p)
	w.published = p.Checkpoint.Position()
	listed := map[string]bool{}
	for _, o := range p.Checkpoint.Objects {
		listed[o.Key()] = true
	}
	for key := range w.listed {
		if !listed[key] {
			must(w, w.store.Delete(w.ctx, key))
		}
	}
	w.listed = listed
	return p
}

// read reads a checkpoint back.
func (w *world) read(at vlog.Position) checkpoint.Read {
	w.Helper()
	c, err := checkpoint.Reader{Store: w.store, Log: w.o.Log, Codec: w.o.Codec, Key: w.key}.At(w.ctx, at)
	must(w, err)
	return c
}

// restore returns an image of a checkpoint.
func (w *world) restore(at vlog.Position) *Image {
	w.Helper()
	m, err := Restore(w.o, w.read(at).Checkpoint)
	must(w, err)
	return m
}

// has sees that an image has some blocks as they should be, and its neighbours.
func (w *world) has(m *Image, blocks ...vlog.Block) {
	w.Helper()
	for _, b := range blocks {
		first := max(b, 2) - 2
		p := bytes.Repeat([]byte{7}, 5*vlog.BlockSize)
		must(w, m.Read(w.ctx, first, p))
		for i := range vlog.Block(5) {
			want := make([]byte, vlog.BlockSize)
			if n := w.want[first+i]; n > 0 {
				want = content(first+i, n)
			}
			if got := p[i*vlog.BlockSize:][:vlog.BlockSize]; !bytes.Equal(got, want) {
				w.Fatalf("block %d at %s: got write %d, want %d", first+i, m.Head().Position, binary.LittleEndian.Uint64(got), w.want[first+i])
			}
		}
	}
}

// hasAll is has of all blocks that were written.
func (w *world) hasAll(m *Image) {
	w.Helper()
	w.has(m, slices.Sorted(maps.Keys(w.want))...)
}
