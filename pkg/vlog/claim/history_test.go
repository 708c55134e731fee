package claim

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
)

// TestHistories runs the real code of claimers, of two sites that delete, and of
// one who may restore, over a store that loses requests and replies, answers
// late, applies changes much later or twice, and spoils what is read. Everybody
// goes on trying, and stalls for longer than the grace period now and then.
//
// It asserts: what is claimed, or restored, is there; what nobody needs goes in
// the end, and leaves nothing but that it is condemned.
func TestHistories(t *testing.T) {
	histories := 400
	if os.Getenv("HOLKAS_SOAK") != "" {
		histories = 20000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	total := map[string]int{}
	for i := range histories {
		synctest.Test(t, func(t *testing.T) {
			h := &history{t: t, name: fmt.Sprintf("seed %d, history %d", seed, i), seed: rand.NewPCG(seed, uint64(i)), done: total}
			h.play()
		})
	}
	t.Log(total)
	for _, what := range []string{"held", "not held", "restored", "not restored", "let go", "in use"} {
		if total[what] < histories/20 {
			t.Errorf("%d times %s in %d histories: want more", total[what], what, histories)
		}
	}
}

const (
	grace = time.Hour
	data  = "snapshots/" + string(snapshot) + "/record"
)

type history struct {
	t    *testing.T
	name string
	m    *memory.Store
	s    *faults.Store
	c    Claims

	mu   sync.Mutex
	seed *rand.PCG
	done map[string]int
}

func (h *history) random(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int(h.seed.Uint64() % uint64(n))
}

func (h *history) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done[what]++
}

func (h *history) stall() {
	time.Sleep(time.Duration(h.random(int(2*grace))) / time.Duration(1+h.random(100)))
}

// try does something until it succeeds or fails with one of some kinds.
func (h *history) try(do func(ctx context.Context) error, until ...fault.Kind) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := do(ctx)
		cancel()
		if err == nil || slices.Contains(until, fault.KindOf(err)) {
			return err
		}
		switch fault.KindOf(err) {
		case fault.Transient, fault.Deadline, fault.Corrupt, fault.Busy, fault.InUse:
		default:
			h.t.Errorf("%s: %v", h.name, err)
			return err
		}
		if fault.Is(err, fault.InUse) {
			h.count("in use")
		}
		h.stall()
	}
}

func (h *history) play() {
	h.m = memory.New()
	must(h.t, h.m.Put(h.t.Context(), data, []byte("data")))
	h.s = faults.New(h.m, faults.Random(h.seed.Uint64(), faults.Rates{
		Before: .05, Lost: .1, Throttled: .02, Silence: .02, Delay: .2, Late: .1, Again: .1, Short: .02, Flip: .02, MaxDelay: 3 * grace,
	}))
	h.c = Claims{Store: h.s, Now: time.Now}
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() { h.claim(fmt.Sprintf("l-%d", i)) })
	}
	for range 2 {
		all.Go(h.delete)
	}
	if h.random(2) == 0 {
		all.Go(h.restore)
	}
	all.Wait()
	h.s.Wait()
	h.check()
}

// claim is a dependent's life: it claims, and holds unless it fails.
func (h *history) claim(dependent string) {
	for range h.random(4) {
		time.Sleep(time.Duration(h.random(int(grace))))
	}
	h.stall()
	of := Claim{Subject: snapshot, Dependent: dependent, Nonce: vlog.NewNonce(), Holder: dependent}
	present := func(ctx context.Context) error {
		_, err := h.s.Get(ctx, data)
		return err
	}
	tries := 1 + h.random(10)
	err := h.try(func(ctx context.Context) error {
		if tries--; tries < 0 {
			return fault.New(fault.Canceled, "it gives up")
		}
		return h.c.Take(ctx, of, present)
	}, fault.NotFound, fault.Precondition, fault.Canceled)
	if err == nil {
		h.count("held")
		h.stall()
		if _, err := h.m.Get(context.Background(), data); err != nil {
			h.t.Errorf("%s: %s holds: %v", h.name, dependent, err)
		}
	} else {
		h.count("not held")
	}
	if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Precondition) {
		_ = h.try(func(ctx context.Context) error { return h.c.Release(ctx, of) })
	}
}

// delete is what a site's controller does until the data is gone.
func (h *history) delete() {
	h.stall()
	var d Deletion
	err := h.try(func(ctx context.Context) (err error) {
		d, err = h.c.Trash(ctx, snapshot, "site")
		return err
	}, fault.NotFound)
	if err != nil {
		return
	}
	if h.try(func(ctx context.Context) error { return h.c.Condemn(ctx, d, grace) }, fault.Precondition) != nil {
		return
	}
	_ = h.try(func(ctx context.Context) error { return h.c.LetGo(ctx, snapshot) })
	h.count("let go")
	h.stall()
	_ = h.try(func(ctx context.Context) error { return h.s.Delete(ctx, data) })
}

func (h *history) restore() {
	var d Deletion
	if h.try(func(ctx context.Context) (err error) {
		if d, err = h.c.Trashed(ctx, snapshot); fault.Is(err, fault.NotFound) {
			return fault.As(fault.Transient, err)
		}
		return err
	}) != nil {
		return
	}
	if h.random(2) == 0 {
		time.Sleep(grace)
		h.stall()
	}
	err := h.try(func(ctx context.Context) error { return h.c.Restore(ctx, d) }, fault.NotFound)
	if err != nil {
		h.count("not restored")
		return
	}
	h.count("restored")
}

// check sees what is left once everything has arrived.
func (h *history) check() {
	ctx := context.Background()
	_, err := h.m.Get(ctx, data)
	c := Claims{Store: h.m, Now: time.Now}
	if live, e := c.Live(ctx, snapshot); e != nil || len(live) > 0 {
		h.t.Errorf("%s: claims %+v, %v: want none", h.name, live, e)
	}
	if d, e := c.Trashed(ctx, snapshot); e == nil && d.Verdict == Restore && (d.Number == 1 || err != nil) {
		if err != nil {
			h.t.Errorf("%s: %s was restored: %v", h.name, d, err)
		}
		return
	}
	if !fault.Is(err, fault.NotFound) {
		h.t.Errorf("%s: the data stays (%v): want it gone", h.name, err)
		return
	}
	must(h.t, c.Forget(ctx, snapshot))
	page, err := h.m.List(ctx, objstore.ListOptions{})
	must(h.t, err)
	for _, o := range page.Objects {
		if !strings.HasSuffix(o.Key, "/condemned") {
			h.t.Errorf("%s: %s stays", h.name, o.Key)
		}
	}
}
