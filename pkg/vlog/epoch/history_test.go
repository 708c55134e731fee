package epoch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
)

// TestHistories runs the real code of openers and writers that race, over a
// store whose every request stops until a seeded scheduler lets one go on: to be
// applied and answered, to be applied with its reply lost, to be lost, or to be
// applied much later, when its sender has long given up or died. Each node opens,
// stores several segments at once, counts, and opens again.
//
// It asserts, for flushes that stand on objects: what was ever acknowledged is
// in what every later opener serves; nothing is acknowledged beside a later
// opener that serves without it; all closers agree on every epoch's end.
func TestHistories(t *testing.T) {
	histories := 300
	if os.Getenv("HOLKAS_SOAK") != "" {
		histories = 20000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	codec := newCodec(t)
	total := map[string]int{}
	for i := range histories {
		synctest.Test(t, func(t *testing.T) {
			h := &history{t: t, codec: codec, rand: rand.New(rand.NewPCG(seed, uint64(i))), name: fmt.Sprintf("seed %d, history %d", seed, i), done: total}
			h.play(150)
		})
	}
	t.Log(total)
	for _, what := range []string{"served", "acknowledged", "fenced", "late", "lost reply"} {
		if total[what] < histories/20 {
			t.Errorf("%d times %s in %d histories: want more", total[what], what, histories)
		}
	}
}

// request is a store request that waits for the scheduler.
type request struct {
	apply func() error // nil for a read
	reply chan error
	node  *node
}

type history struct {
	t     *testing.T
	codec *frame.Codec
	rand  *rand.Rand
	name  string
	store memory.Store
	done  map[string]int

	mu      sync.Mutex
	waiting []*request
	late    []func() error
	ends    map[vlog.Epoch]vlog.Sequence
	acked   map[vlog.Position]bool
	serving map[vlog.Epoch]map[vlog.Position]bool // what each serving epoch found
}

// node is one process; killing it makes every request of it fail.
type node struct {
	objstore.Store
	h      *history
	name   string
	killed atomic.Bool
}

func (n *node) ask(apply func() error) error {
	r := &request{apply: apply, reply: make(chan error, 1), node: n}
	n.h.mu.Lock()
	n.h.waiting = append(n.h.waiting, r)
	n.h.mu.Unlock()
	return <-r.reply
}

func (n *node) Create(ctx context.Context, key string, body []byte) error {
	create := func() error { return n.h.store.Create(context.WithoutCancel(ctx), key, body) }
	for {
		err := n.ask(create)
		if !fault.Is(err, fault.Transient) || n.killed.Load() {
			return err
		}
	}
}

func (n *node) Get(ctx context.Context, key string) ([]byte, error) {
	if err := n.ask(nil); err != nil {
		return nil, err
	}
	return n.h.store.Get(ctx, key)
}

func (n *node) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := n.ask(nil); err != nil {
		return nil, err
	}
	return n.h.store.GetRange(ctx, key, offset, length)
}

func (n *node) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	if err := n.ask(nil); err != nil {
		return objstore.Page{}, err
	}
	o.Limit = 2 // pages are seen at different times
	return n.h.store.List(ctx, o)
}

func (h *history) play(steps int) {
	h.ends, h.acked, h.serving = map[vlog.Epoch]vlog.Sequence{}, map[vlog.Position]bool{}, map[vlog.Epoch]map[vlog.Position]bool{}
	var nodes []*node
	for range steps {
		if len(nodes) < 3 && h.rand.IntN(20) < 7 || len(nodes) == 0 {
			n := &node{Store: &h.store, h: h, name: fmt.Sprintf("n%d", h.rand.IntN(3))}
			nodes = append(nodes, n)
			go n.live()
		}
		synctest.Wait()
		h.step()
		if h.rand.IntN(60) == 0 {
			i := h.rand.IntN(len(nodes))
			nodes[i].killed.Store(true)
			nodes = append(nodes[:i], nodes[i+1:]...)
		}
	}
	for _, n := range nodes {
		n.killed.Store(true)
	}
	for synctest.Wait(); len(h.waiting) > 0; synctest.Wait() {
		h.step()
	}
}

// step lets one waiting request, or a late one, go on.
func (h *history) step() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.late) > 0 && h.rand.IntN(12) == 0 {
		i := h.rand.IntN(len(h.late))
		_ = h.late[i]()
		h.late = append(h.late[:i], h.late[i+1:]...)
		h.done["late"]++
	}
	if len(h.waiting) == 0 {
		return
	}
	i := h.rand.IntN(len(h.waiting))
	r := h.waiting[i]
	h.waiting = append(h.waiting[:i], h.waiting[i+1:]...)
	gone := fault.New(fault.Transient, "no reply")
	switch chance := h.rand.IntN(20); {
	case r.node.killed.Load():
		if r.apply != nil && chance < 8 {
			h.late = append(h.late, r.apply) // it is still on its way
		}
		r.reply <- gone
	case r.apply == nil:
		r.reply <- nil
	case chance == 0:
		_ = r.apply()
		h.done["lost reply"]++
		r.reply <- gone
	case chance == 1:
		r.reply <- gone
	case chance == 2:
		h.late = append(h.late, r.apply)
		r.reply <- gone
	default:
		r.reply <- r.apply()
	}
}

// live opens and writes until it is killed or fenced.
func (n *node) live() {
	h := n.h
	o := options(n.name)
	o.Promise = ObjectPromise
	r, opening, err := Log{n, vlog.LogID{1}}.Open(context.Background(), o)
	if err != nil {
		if !n.killed.Load() && !fault.Is(err, fault.Fenced) && !fault.Is(err, fault.Busy) {
			h.t.Errorf("%s: open: %v", h.name, err)
		}
		return
	}
	n.serve(r, opening)
	p := newPen(h.t, h.codec, r.Claim.Reign, opening)
	for range 4 {
		var uploads sync.WaitGroup
		for range 3 {
			f := p.segment(h.t)
			uploads.Go(func() {
				err := r.Put(context.Background(), f.Sequence, f.Object)
				if err == nil {
					n.acknowledge(r)
				} else if !n.killed.Load() && !fault.Is(err, fault.Fenced) {
					h.t.Errorf("%s: put: %v", h.name, err)
				} else if fault.Is(err, fault.Fenced) {
					h.mu.Lock()
					h.done["fenced"]++
					h.mu.Unlock()
				}
			})
		}
		uploads.Wait()
	}
	if err := r.Close(context.Background(), vlog.Head{Position: r.Counted(), Chain: p.chain}); err != nil && !n.killed.Load() && !fault.Is(err, fault.Fenced) {
		h.t.Errorf("%s: close: %v", h.name, err)
	}
}

// serve checks what an opener found when it begins to serve.
func (n *node) serve(r *Reign, o Opening) {
	h := n.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done["served"]++
	found := map[vlog.Position]bool{}
	for _, run := range o.Runs {
		if end, ok := h.ends[run.Epoch]; ok && end != run.Head.Sequence {
			h.t.Errorf("%s: epoch %d ends at %d for %s, before at %d", h.name, run.Epoch, run.Head.Sequence, r.Claim, end)
		}
		h.ends[run.Epoch] = run.Head.Sequence
		for _, s := range run.Segments {
			found[s.Position()] = true
		}
	}
	for p := range h.acked {
		if p.Epoch < r.Epoch && !found[p] {
			h.t.Errorf("%s: %s serves without %s, which was acknowledged", h.name, r.Claim, p)
		}
	}
	h.serving[r.Epoch] = found
}

// acknowledge acknowledges what counts.
func (n *node) acknowledge(r *Reign) {
	if n.killed.Load() {
		return
	}
	h := n.h
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := (vlog.Position{Epoch: r.Epoch}); p.Sequence < r.Counted().Sequence; {
		p = p.Next()
		if h.acked[p] {
			continue
		}
		h.acked[p] = true
		h.done["acknowledged"]++
		for later, found := range h.serving {
			if later > p.Epoch && !found[p] {
				h.t.Errorf("%s: %s is acknowledged beside epoch %d, which serves without it", h.name, p, later)
			}
		}
	}
}
