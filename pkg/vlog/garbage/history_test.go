package garbage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestHistories runs the real code of nodes that write in turn or at once, of two
// sites that collect, of replicas that claim the log, and of snapshots that come
// and go, over a store that loses requests and replies, answers late, applies
// changes later or twice, and spoils what is read. Everybody stalls now and then
// for longer than the grace period, collectors between their decision and the
// deletion too, and dies.
//
// It asserts: everything that a serving head, a snapshot or a claim needs is there;
// in the end what nobody needs is gone, after two collections, and with the log
// the rest.
func TestHistories(t *testing.T) {
	histories := 100
	if os.Getenv("HOLKAS_SOAK") != "" {
		histories = 4000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	codec, err := frame.NewCodec(1)
	must(t, err)
	defer codec.Close()
	total := map[string]int{}
	for i := range histories {
		synctest.Test(t, func(t *testing.T) {
			h := &history{t: t, name: fmt.Sprintf("seed %d, history %d", seed, i), codec: codec, of: &contents{of: map[string]vlog.Block{}}}
			h.seed, h.done, h.latest = rand.NewPCG(seed, uint64(i)), total, map[vlog.Block]vlog.Position{}
			h.play()
		})
		if t.Failed() {
			return
		}
	}
	t.Log(total)
	for _, what := range []string{"served", "fenced", "snapshot held", "replica held", "replica refused", "writer collected", "collected alone", "objects deleted"} {
		if total[what] < histories/20 {
			t.Errorf("%d times %s in %d histories: want more", total[what], what, histories)
		}
	}
}

type history struct {
	t     *testing.T
	name  string
	codec *frame.Codec
	of    *contents
	m     *memory.Store
	f     *faults.Store
	s     objstore.Store
	held  sync.WaitGroup // holders of snapshots

	mu     sync.Mutex
	seed   *rand.PCG
	done   map[string]int
	acked  []vlog.Position
	latest map[vlog.Block]vlog.Position // acknowledged
	sealed []volume.SnapshotID
}

// patient bounds each request, and asks a few times.
type patient struct{ objstore.Store }

func ask(ctx context.Context, do func(ctx context.Context) error) (err error) {
	for range 3 {
		bound, cancel := context.WithTimeout(ctx, time.Minute)
		err = do(bound)
		cancel()
		if !fault.Is(err, fault.Transient) && !fault.Is(err, fault.Deadline) {
			return err
		}
	}
	return err
}

func (p patient) Get(ctx context.Context, key string) (b []byte, err error) {
	err = ask(ctx, func(ctx context.Context) error { b, err = p.Store.Get(ctx, key); return err })
	return b, err
}

func (p patient) GetRange(ctx context.Context, key string, offset, length int64) (b []byte, err error) {
	err = ask(ctx, func(ctx context.Context) error { b, err = p.Store.GetRange(ctx, key, offset, length); return err })
	return b, err
}

func (p patient) Create(ctx context.Context, key string, body []byte) error {
	return ask(ctx, func(ctx context.Context) error { return p.Store.Create(ctx, key, body) })
}

func (p patient) Delete(ctx context.Context, keys ...string) error {
	return ask(ctx, func(ctx context.Context) error { return p.Store.Delete(ctx, keys...) })
}

func (p patient) List(ctx context.Context, o objstore.ListOptions) (page objstore.Page, err error) {
	o.Limit = 3 // pages are seen at different times
	err = ask(ctx, func(ctx context.Context) error { page, err = p.Store.List(ctx, o); return err })
	return page, err
}

func (h *history) random(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int(h.seed.Uint64() % uint64(n))
}

func (h *history) count(what string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done[what] += n
}

// stall waits: mostly for minutes, at times for longer than the grace period.
func (h *history) stall() {
	time.Sleep(time.Duration(h.random(int(2*grace))) / time.Duration(1+h.random(20)))
}

// try does something until it succeeds, or fails with one of some kinds.
func (h *history) try(do func(ctx context.Context) error, until ...fault.Kind) error {
	for tries := 1; ; tries++ {
		err := do(context.Background())
		if tries == 1000 {
			h.t.Errorf("%s: for the %dth time: %v", h.name, tries, err)
			return err
		}
		if err == nil || slices.Contains(until, fault.KindOf(err)) {
			return err
		}
		switch fault.KindOf(err) {
		case fault.Transient, fault.Deadline, fault.Corrupt, fault.Busy, fault.InUse:
		default:
			h.t.Errorf("%s: %v", h.name, err)
			return err
		}
		time.Sleep(time.Duration(1 + h.random(int(time.Minute))))
	}
}

func (h *history) play() {
	ctx := context.Background()
	h.m = memory.New()
	h.f = faults.New(h.m, faults.Random(h.seed.Uint64(), faults.Rates{
		Before: .02, Lost: .04, Throttled: .01, Silence: .01, Delay: .1, Late: .03, Again: .05, Short: .005, Flip: .005, MaxDelay: grace / 3,
	}))
	h.s = patient{h.f}
	must(h.t, epoch.Log{Store: h.m, ID: testLog}.Create(ctx, epoch.Base{Blocks: 1 << 20}))
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() { h.write(fmt.Sprintf("node.%d", i)) })
		all.Go(func() { h.collect(fmt.Sprintf("site.%d", i)) })
		all.Go(h.replicate)
	}
	all.Wait()
	h.held.Wait()
	h.f.Wait()
	h.end(ctx)
}

// write is a node's life: it opens and writes, several times.
func (h *history) write(name string) {
	for range 1 + h.random(3) {
		h.stall()
		var w *writer
		pause := func() {
			if h.random(4) == 0 {
				time.Sleep(time.Duration(1+h.random(6)) * grace)
			}
		}
		err := h.try(func(ctx context.Context) (err error) {
			w, err = open(ctx, h.s, h.codec, name, h.of, pause)
			return err
		}, fault.Fenced, fault.Busy)
		if err != nil {
			continue
		}
		h.serve(w)
		alive := true
		for steps := 5 + h.random(20); steps > 0 && alive; steps-- {
			alive = h.step(w)
			h.head(w)
		}
		switch {
		case !alive:
			h.count("fenced", 1)
		case h.random(2) == 0: // otherwise it dies
			_ = h.try(func(ctx context.Context) error { return w.Close(ctx, w.head) }, fault.Fenced, fault.Corrupt)
		}
	}
}

// step does something as a writer, and reports whether it may go on.
func (h *history) step(w *writer) bool {
	switch h.random(8) {
	case 0:
		h.stall()
		if h.random(2) == 0 {
			time.Sleep(grace)
		}
		return true
	case 1:
		return h.snapshot(w)
	case 2, 3:
		c := h.collector(h.s)
		p, err := c.AsWriter(context.Background(), w.Reign, w.table)
		if err == nil && !p.Empty() {
			h.count("writer collected", 1)
		}
		return !fault.Is(err, fault.Fenced)
	}
	for range 1 + h.random(3) {
		block := vlog.Block(1 + h.random(3))
		if !h.store(w, func(ctx context.Context) error { return w.write(ctx, block) }) {
			return false
		}
	}
	return h.publish(w)
}

// store stores a segment and acknowledges it.
func (h *history) store(w *writer, do func(ctx context.Context) error) bool {
	if h.try(do, fault.Fenced, fault.Corrupt) != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked = append(h.acked, w.head.Position)
	h.latest[h.of.block(vlog.Keys{Log: testLog}.Segment(w.head.Position))] = w.head.Position
	return true
}

func (h *history) publish(w *writer) bool {
	var p prepared
	whole := h.random(3) == 0
	if h.try(func(ctx context.Context) (err error) {
		p, err = w.prepare(ctx, whole)
		return err
	}) != nil {
		return false
	}
	if h.random(10) == 0 {
		h.stall()
	}
	return h.try(func(ctx context.Context) error {
		err := w.publish(ctx, p)
		if fault.Is(err, fault.Exists) { // what was read back was spoiled
			err = fault.As(fault.Transient, err)
		}
		return err
	}) == nil
}

// snapshot seals a snapshot, and has it held for a while if it is complete.
func (h *history) snapshot(w *writer) bool {
	var s checkpoint.Snapshot
	id := volume.NewSnapshotID()
	if !h.store(w, func(ctx context.Context) (err error) {
		s, err = w.seal(ctx, id)
		return err
	}) {
		return false
	}
	h.mu.Lock()
	h.sealed = append(h.sealed, id)
	h.mu.Unlock()
	if !h.publish(w) || h.try(w.Latest, fault.Fenced) != nil {
		return false
	}
	h.held.Go(func() { h.hold(s) })
	return true
}

// hold sees that a complete snapshot is there until it is let go.
func (h *history) hold(s checkpoint.Snapshot) {
	for range 1 + h.random(4) {
		h.stall()
		h.whole(s.Position, "snapshot "+string(s.ID))
	}
	h.count("snapshot held", 1)
	if h.random(3) > 0 {
		h.condemn(h.s, claim.Subject(s.ID))
	}
}

func (h *history) condemn(s objstore.Store, of claim.Subject) {
	c := claim.Claims{Store: s, Now: time.Now}
	var d claim.Deletion
	if h.try(func(ctx context.Context) (err error) {
		d, err = c.Trash(ctx, of, "test")
		return err
	}) == nil {
		_ = h.try(func(ctx context.Context) error { return c.Condemn(ctx, d, 0) })
	}
}

// whole sees that a checkpoint and all that it lists is there.
func (h *history) whole(at vlog.Position, what string) {
	ctx := context.Background()
	read, err := checkpoint.Reader{Store: h.m, Log: testLog}.At(ctx, at)
	if err != nil {
		h.t.Errorf("%s: %s at %s: %v", h.name, what, at, err)
		return
	}
	for _, o := range read.Objects {
		if _, err := h.m.Get(ctx, o.Key()); err != nil {
			h.t.Errorf("%s: %s at %s: %v", h.name, what, at, err)
		}
	}
}

// serve sees that an opener has all that was acknowledged.
func (h *history) serve(w *writer) {
	h.count("served", 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	for b, at := range h.latest {
		o, ok := w.blocks[b]
		if got := (vlog.Position{Epoch: o.Reign.Epoch, Sequence: o.Sequence}); at.Epoch < w.Epoch && (!ok || got.Compare(at) < 0) {
			h.t.Errorf("%s: %s serves block %d of %s, acknowledged was %s", h.name, w.Claim, b, got, at)
		}
	}
}

// head sees that all that a writer names is there, unless it is fenced.
func (h *history) head(w *writer) {
	ctx := context.Background()
	all := []checkpoint.Object{w.page}
	for _, o := range w.blocks {
		all = append(all, o)
	}
	for _, o := range all {
		if o.Kind == 0 {
			continue
		}
		_, err := h.m.Get(ctx, o.Key())
		if err != nil && (epoch.Log{Store: h.m, ID: testLog}).Latest(ctx, w.Claim) == nil {
			h.t.Errorf("%s: %s needs %v", h.name, w.Claim, err)
		}
	}
}

func (h *history) collector(s objstore.Store) *Collector {
	c := newCollector(s)
	c.Deleting = func(keys []string) error {
		h.count("objects deleted", len(keys))
		if h.random(3) == 0 {
			h.stall()
		}
		if h.random(10) == 0 {
			return fault.New(fault.Transient, "it dies")
		}
		return nil
	}
	return c
}

// collect is what a site does about a log that has no writer, or may have one.
func (h *history) collect(site string) {
	c := h.collector(h.s)
	for range 4 + h.random(8) {
		h.stall()
		p, err := c.Alone(context.Background(), AloneOptions{Owner: site, WriterGone: h.random(4) == 0})
		switch {
		case err == nil && !p.Empty():
			h.count("collected alone", 1)
		case err != nil && !slices.Contains([]fault.Kind{fault.Transient, fault.Deadline, fault.Corrupt, fault.Busy, fault.Fenced, fault.InUse}, fault.KindOf(err)):
			h.t.Errorf("%s: %v", h.name, err)
		}
	}
}

// replicate claims the log from its newest checkpoint on, for a while.
func (h *history) replicate() {
	for i := range 4 {
		h.stall()
		var at vlog.Position
		if h.try(func(ctx context.Context) error {
			read, err := checkpoint.Reader{Store: h.s, Log: testLog}.Newest(ctx)
			if err == nil {
				at = read.Position()
			}
			return err
		}, fault.NotFound) != nil {
			continue
		}
		of := claim.Claim{Subject: claim.Subject(testLog.String()), Dependent: fmt.Sprintf("r-%d", i), Nonce: vlog.NewNonce(), From: at}
		c := claim.Claims{Store: h.s, Now: time.Now}
		if h.random(2) == 0 {
			h.stall()
		}
		if h.try(func(ctx context.Context) error {
			return c.Take(ctx, of, func(ctx context.Context) error { return Newest(ctx, h.s, testLog, at) })
		}, fault.NotFound, fault.Precondition) != nil {
			h.count("replica refused", 1)
			continue
		}
		h.stall()
		h.count("replica held", 1)
		h.whole(at, "replica")
		h.mu.Lock()
		acked := slices.Clone(h.acked)
		h.mu.Unlock()
		for _, p := range acked {
			if _, err := h.m.Get(context.Background(), (vlog.Keys{Log: testLog}).Segment(p)); err != nil && p.Compare(at) > 0 {
				h.t.Errorf("%s: replica from %s: %v", h.name, at, err)
			}
		}
		_ = h.try(func(ctx context.Context) error { return c.Release(ctx, of) })
	}
}

// end sees what is left once nobody needs anything but the head, then nothing.
func (h *history) end(ctx context.Context) {
	for _, id := range h.sealed {
		h.condemn(h.m, claim.Subject(id))
	}
	w, err := open(ctx, h.m, h.codec, "last", h.of, func() {})
	if err != nil {
		h.t.Errorf("%s: %v", h.name, err)
		return
	}
	h.serve(w)
	must(h.t, w.write(ctx, 1))
	p, err := w.prepare(ctx, true)
	must(h.t, err)
	must(h.t, w.publish(ctx, p))
	time.Sleep(grace)
	c := newCollector(h.m)
	for range 2 {
		if _, err := c.AsWriter(ctx, w.Reign, w.table); err != nil {
			h.t.Errorf("%s: %v", h.name, err)
		}
	}
	want := []string{w.page.Key(), p.Encoded.Key}
	for _, o := range w.blocks {
		want = append(want, o.Key())
	}
	h.left("the head", want)
	must(h.t, w.Close(ctx, w.head))
	h.condemn(h.m, claim.Subject(testLog.String()))
	for range 2 {
		if _, err := c.Alone(ctx, AloneOptions{Owner: "worker"}); err != nil {
			h.t.Errorf("%s: the log is let go: %v", h.name, err)
		}
	}
	h.left("nothing", nil)
}

// left sees that nothing but some objects is there, and what never goes.
func (h *history) left(what string, want []string) {
	var got []string
	must(h.t, list(context.Background(), h.m, "logs/", "", func(o objstore.Object) error {
		marker := strings.Contains(o.Key, "/segments/") && o.SizeBytes < segment.MinBytes
		if !marker && !strings.HasSuffix(o.Key, "/base") && !strings.HasSuffix(o.Key, "/condemned") && !strings.Contains(o.Key, "/epochs/") && !strings.Contains(o.Key, "/swept/") {
			got = append(got, o.Key)
		}
		return nil
	}))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.t.Errorf("%s: left for %s:\n%q, want\n%q", h.name, what, got, want)
	}
}
