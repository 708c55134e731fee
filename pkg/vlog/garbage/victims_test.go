package garbage

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
)

// TestCost compares the theory with its published points.
func TestCost(t *testing.T) {
	for live, want := range map[float64]float64{0.5: 1.255, 0.6: 1.477, 0.7: 1.876, 0.8: 2.693} {
		if got := Cost(live); math.Abs(got-want) > 0.02 {
			t.Errorf("at %.2f: got %.3f, want about %.3f", live, got, want)
		}
	}
}

// TestVictims: who is chosen, and what is left alone.
func TestVictims(t *testing.T) {
	own := checkpoint.Reign{Reign: frame.Reign{Log: testLog, Epoch: 1}}
	foreign, away := own, own
	foreign.Log[0]++
	away.Repository = "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	c := &checkpoint.Checkpoint{Reign: own.Reign}
	add := func(kind vlog.Kind, r checkpoint.Reign, live uint32) {
		n := uint32(len(c.Objects))
		c.Objects = append(c.Objects, checkpoint.Object{Number: n, Kind: kind, Reign: r, Sequence: vlog.Sequence(n + 1), SizeBytes: 100 * vlog.BlockSize})
		c.Live = append(c.Live, live)
	}
	for _, live := range []uint32{50, 10, 0, 95, 30, 20, 30} {
		add(vlog.SegmentKind, own, live)
	}
	add(vlog.TableKind, own, 1)
	add(vlog.SegmentKind, foreign, 1)
	add(vlog.SegmentKind, away, 1)
	for name, row := range map[string]struct {
		o    CleaningOptions
		want []uint32
	}{
		"all that is worth it":      {CleaningOptions{Target: 1, Blocks: 1000}, []uint32{1, 5, 4, 6, 0}},
		"until the target":          {CleaningOptions{Target: 0.5, Blocks: 1000}, []uint32{1, 5}},
		"above the target":          {CleaningOptions{Target: 0.39, Blocks: 1000}, nil},
		"within the rate":           {CleaningOptions{Target: 1, Blocks: 59}, []uint32{1, 5}},
		"the sparse only":           {CleaningOptions{Target: 1, Blocks: 1000, MaxShare: 0.3}, []uint32{1, 5}},
		"the old only":              {CleaningOptions{Target: 1, Blocks: 1000, Young: vlog.Position{Epoch: 1, Sequence: 5}}, []uint32{1, 4, 0}},
		"none that a snapshot pins": {CleaningOptions{Target: 1, Blocks: 1000, Pinned: func(o checkpoint.Object) bool { return o.Number != 4 }}, []uint32{4}},
		"compressed":                {CleaningOptions{Target: 1, Blocks: 1000, MaxShare: .2, Stored: func(checkpoint.Object) uint32 { return 200 }}, []uint32{1, 5, 4, 6}},
	} {
		var got []uint32
		for _, v := range Victims(c, row.o) {
			got = append(got, v.Number)
		}
		if len(got) != len(row.want) {
			t.Errorf("%s: got %v, want %v", name, got, row.want)
			continue
		}
		for i := range got {
			if got[i] != row.want[i] {
				t.Errorf("%s: got %v, want %v", name, got, row.want)
			}
		}
	}
}

// TestCleaningCostsWhatTheoryDoes overwrites blocks at random, cleans by Victims,
// and counts what is stored: within 1.05 of theory.
func TestCleaningCostsWhatTheoryDoes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, target := range []float64{0.6, 0.7} {
		random := rand.New(rand.NewPCG(seed, 0))
		l := &simulated{of: make([]vlog.Sequence, 1<<16), blocks: map[vlog.Sequence][]int{}, live: map[vlog.Sequence]uint32{}}
		for b := range l.of {
			l.store(b)
		}
		written, stored := 0, 0
		for round := range 12 * len(l.of) / perSegment {
			if round == 6*len(l.of)/perSegment {
				written, stored = 0, l.stored
			}
			for range perSegment {
				l.store(random.IntN(len(l.of)))
				written++
			}
			l.clean(target)
		}
		got, theory := float64(l.stored-stored)/float64(written), Cost(target)
		t.Logf("at %.1f live: %.3f stored a block written, theory %.3f", target, got, theory)
		if got > 1.05*theory || got < 0.9*theory {
			t.Errorf("at %.1f live: got %.3f, want about %.3f", target, got, theory)
		}
	}
}

const perSegment = 256

// simulated is a log whose segments have perSegment blocks.
type simulated struct {
	last   vlog.Sequence
	of     []vlog.Sequence // by block
	blocks map[vlog.Sequence][]int
	live   map[vlog.Sequence]uint32
	stored int
}

func (l *simulated) store(b int) {
	if l.last == 0 || len(l.blocks[l.last]) == perSegment {
		l.last++
	}
	if old := l.of[b]; old > 0 {
		if l.live[old]--; l.live[old] == 0 && old != l.last {
			delete(l.live, old)
			delete(l.blocks, old)
		}
	}
	l.of[b] = l.last
	l.live[l.last]++
	l.blocks[l.last] = append(l.blocks[l.last], b)
	l.stored++
}

func (l *simulated) clean(target float64) {
	own := checkpoint.Reign{Reign: frame.Reign{Log: testLog, Epoch: 1}}
	c := &checkpoint.Checkpoint{Reign: own.Reign}
	for s, live := range l.live {
		if s < l.last {
			c.Objects = append(c.Objects, checkpoint.Object{Kind: vlog.SegmentKind, Reign: own, Sequence: s, SizeBytes: perSegment * vlog.BlockSize})
			c.Live = append(c.Live, live)
		}
	}
	for _, v := range Victims(c, CleaningOptions{Target: target, Blocks: 10 * perSegment}) {
		for _, b := range l.blocks[v.Sequence] {
			if l.of[b] == v.Sequence {
				l.store(b)
			}
		}
	}
}
