package repository

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
)

// stage runs several processes on one store, one store operation at a time, in an
// order that the test draws; an operation may fail before or after it took
// effect, and a process may stall before one for as long as the test likes.
type stage struct {
	objstore.Store
}

// process is the stage as one process sees it.
type process struct {
	*stage
	door    chan struct{}
	waiting bool
	done    bool
	verdict verdict // on the operation that it waits for
}

type verdict int

const (
	pass verdict = iota
	passReplyLost
	fail
)

func (p *process) gate(op func() error) error {
	p.waiting = true
	<-p.door
	switch p.verdict {
	case fail:
		return errLost
	case passReplyLost:
		if err := op(); err != nil {
			return err
		}
		return errLost
	}
	return op()
}

func (p *process) Get(ctx context.Context, key string) (body []byte, err error) {
	err = p.gate(func() error { body, err = p.Store.Get(ctx, key); return err })
	return body, err
}

func (p *process) Create(ctx context.Context, key string, body []byte) error {
	return p.gate(func() error { return p.Store.Create(ctx, key, body) })
}

func (p *process) Delete(ctx context.Context, keys ...string) error {
	return p.gate(func() error { return p.Store.Delete(ctx, keys...) })
}

func (p *process) List(ctx context.Context, o objstore.ListOptions) (page objstore.Page, err error) {
	err = p.gate(func() error { page, err = p.Store.List(ctx, o); return err })
	return page, err
}

// plan is what is drawn of a history before it is played: the test may not draw
// on the way, since the processes run in a bubble of time of their own. When its
// moves are used up, what is still running runs on undisturbed.
type plan struct {
	moves []move
}

type move struct{ Next, Verdict byte }

func drawPlan(t *rapid.T) *plan {
	moves := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) move {
		return move{rapid.Byte().Draw(t, "next"), rapid.Byte().Draw(t, "verdict")}
	}), 0, 400).Draw(t, "moves")
	return &plan{moves}
}

// next chooses one of n processes, or none, and what becomes of its operation.
func (p *plan) next(n int, faults bool) (chosen int, v verdict, ok bool) {
	if n == 0 {
		return 0, pass, false
	}
	if len(p.moves) == 0 {
		return 0, pass, true
	}
	m := p.moves[0]
	p.moves = p.moves[1:]
	choice := int(m.Next) % (n*8 + 1)
	verdicts := []verdict{pass}
	if faults {
		verdicts = []verdict{pass, pass, pass, pass, passReplyLost, fail}
	}
	return choice % n, verdicts[int(m.Verdict)%len(verdicts)], choice < n*8
}

// play runs the processes to their end. Where all sleep, time goes on; planned
// pauses let it go on also where some could run.
func (s *stage) play(plan *plan, faults bool, processes []*process) {
	for {
		synctest.Wait()
		var ready []*process
		running := 0
		for _, p := range processes {
			if p.waiting {
				ready = append(ready, p)
			}
			if !p.done {
				running++
			}
		}
		if running == 0 {
			return
		}
		chosen, verdict, ok := plan.next(len(ready), faults)
		if !ok {
			time.Sleep(2 * removalBound)
			continue
		}
		p := ready[chosen]
		p.waiting, p.verdict = false, verdict
		p.door <- struct{}{}
	}
}

// run makes processes of functions and plays them, in a bubble.
func (s *stage) run(t *testing.T, plan *plan, faults bool, bodies ...func(r *Repository)) {
	synctest.Test(t, func(*testing.T) {
		var processes []*process
		for _, body := range bodies {
			p := &process{stage: s, door: make(chan struct{})}
			processes = append(processes, p)
			r := on(p, time.Now)
			go func() {
				body(r)
				p.done = true
			}()
		}
		s.play(plan, faults, processes)
	})
}

// histories checks 100 histories, and many more with HOLKAS_SOAK=1.
func histories(t *testing.T, check func(*rapid.T)) {
	rounds := 1
	if os.Getenv("HOLKAS_SOAK") == "1" {
		rounds = 200
	}
	for range rounds {
		rapid.Check(t, check)
	}
}

// TestUpdatesModel: whatever the order, the stalls and the lost replies, every
// update that returned nil is in the record exactly once, one that failed for
// certain is not, and one whose outcome is unknown is there at most once.
func TestUpdatesModel(outer *testing.T) {
	histories(outer, func(t *rapid.T) {
		s := &stage{Store: memory.New()}
		r := on(s.Store, time.Now)
		if _, err := r.Volumes.Append(context.Background(), goldenVolume, Revision[Volume]{}, Volume{ID: goldenVolume}); err != nil {
			t.Fatal(err)
		}
		certain, unknown := map[string]int64{}, map[string]bool{}
		var bodies []func(*Repository)
		for w := range rapid.IntRange(2, 4).Draw(t, "writers") {
			updates := rapid.IntRange(1, 14).Draw(t, "updates")
			bodies = append(bodies, func(r *Repository) {
				for i := range updates {
					token := fmt.Sprintf("%d.%d", w, i)
					v, err := r.Volumes.Update(context.Background(), goldenVolume, add(token))
					switch fault.KindOf(err) {
					case fault.Transient:
						unknown[token] = true
					default:
						if err != nil {
							t.Errorf("update: %v", err)
						}
						certain[token] = v.Number
					}
				}
			})
		}
		s.run(outer, drawPlan(t), rapid.Bool().Draw(t, "faults"), bodies...)
		check(t, r, certain, unknown)
	})
}

// add notes a token in a volume's record, and counts.
func add(token string) func(Volume) (Volume, error) {
	return func(v Volume) (Volume, error) {
		v.Publications = append(slices.Clone(v.Publications), Publication{AccessMode: token})
		v.SizeBytes++
		return v, nil
	}
}

func check(t *rapid.T, r *Repository, certain map[string]int64, unknown map[string]bool) {
	v, err := r.Volumes.Latest(context.Background(), goldenVolume)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int64{}
	for i, p := range v.Value.Publications {
		if seen[p.AccessMode] != 0 {
			t.Errorf("%s was added twice", p.AccessMode)
		}
		seen[p.AccessMode] = int64(i + 2)
		if certain[p.AccessMode] == 0 && !unknown[p.AccessMode] {
			t.Errorf("%s was added, and was said to have failed", p.AccessMode)
		}
	}
	for token, number := range certain {
		if seen[token] != number {
			t.Errorf("%s is in revision %d, and was said to be in %d", token, seen[token], number)
		}
	}
	if want := int64(len(v.Value.Publications)); v.Value.SizeBytes != want || v.Number != want+1 {
		t.Errorf("revision %d counts %d for %d updates", v.Number, v.Value.SizeBytes, want)
	}
}

// TestNamesModel: a name as a lock. Processes take it when it is free or absent,
// end it, and remove it a while after it ended: two never hold it at once, and
// who holds it keeps it, whatever is removed around it.
func TestNamesModel(outer *testing.T) {
	histories(outer, func(t *rapid.T) {
		s := &stage{Store: memory.New()}
		holder := ""
		var bodies []func(*Repository)
		for w := range 3 {
			rounds := rapid.IntRange(1, 4).Draw(t, "rounds")
			bodies = append(bodies, func(r *Repository) {
				for i := range rounds {
					token := fmt.Sprintf("%d.%d", w, i)
					if !take(r, token) {
						continue
					}
					if holder != "" {
						t.Errorf("%s took the name that %s holds", token, holder)
					}
					holder = token
					n, err := r.VolumeNames.Latest(context.Background(), "pvc")
					if err == nil && n.Value.ID != token || fault.Is(err, fault.NotFound) {
						t.Errorf("%s holds the name, and reads %+v, %v", token, n, err)
					}
					holder = ""
					end(r, token)
				}
			})
		}
		bodies = append(bodies, sweeper, sweeper)
		s.run(outer, drawPlan(t), rapid.Bool().Draw(t, "faults"), bodies...)
	})
}

func take(r *Repository, token string) bool {
	n, err := r.VolumeNames.Latest(context.Background(), "pvc")
	if err != nil && !fault.Is(err, fault.NotFound) || err == nil && !n.Value.Ended {
		return false
	}
	_, err = r.VolumeNames.Append(context.Background(), "pvc", n, Name{Name: "pvc", ID: token})
	return err == nil
}

func end(r *Repository, token string) {
	for range 5 {
		_, err := r.VolumeNames.Update(context.Background(), "pvc", func(n Name) (Name, error) {
			if n.ID == token {
				n.Ended, n.Created = true, time.Now()
			}
			return n, nil
		})
		if err == nil {
			return
		}
	}
}

// sweeper removes what ended long ago, as a controller does.
func sweeper(r *Repository) {
	for range 4 {
		page, _, err := r.VolumeNames.List(context.Background(), "", 0)
		if err != nil || len(page) == 0 || !page[0].Value.Ended || time.Since(page[0].Value.Created) < time.Hour {
			time.Sleep(time.Hour)
			continue
		}
		_ = r.VolumeNames.Remove(context.Background(), "pvc") // who loses tries again
	}
}
