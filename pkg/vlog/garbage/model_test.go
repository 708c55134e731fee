package garbage

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strings"
	"testing"
)

// An explicit-state checker of collection: every order of every step of a writer,
// a second writer that opens the log, two collectors, a replica that claims the
// log, and a snapshot that comes and goes, with requests that get lost, come late
// or come again, and deaths at each step. It knows nothing of the code;
// TestHistories plays that. There is no grace period here: every checkpoint is old
// enough at once, and every stall is longer.
//
// The volume has one block. Segment k, of the first writer, kills k-1; checkpoint k
// lists segment k and a table of its own, which lives and dies with it here.
// Checkpoint mOwn is the second writer's, and lists the last segment.

const (
	mSegments = 2
	mOwn      = mSegments + 1
	mEpochs   = 4
)

// rules are what a variant leaves out. The zero value obeys all.
type rules struct {
	unlooked         bool // deletes without looking for a later epoch
	unclaimed        bool // collects alone without claiming an epoch
	ignoresSnapshots bool
	ignoresClaims    bool
	claimsFirst      bool // lists the claims before the checkpoints
	unlookedClaim    bool // the replica does not look whether its checkpoint is the newest
	asOfOthers       bool // a writer decides as of a checkpoint of another one
	asOfUnknown      bool // a writer decides as of one that it does not know to be published
	completeUnlooked bool // a snapshot is complete without a look
	endedEarly       bool // takes a log for ended while a claim is there
	planBefore       bool // an ended log's checkpoint is read before the epoch is claimed
	openBefore       bool // an opener reads the checkpoint before its claim
	cast             cast
}

// cast is who takes part beside the first writer, so that what each does is seen
// in all depth.
type cast struct {
	opener, replica, snapshot, ends bool
	alone                           int // collectors
}

// collecting is one who collects.
type collecting struct {
	pc, epoch          uint8
	ended              bool
	seen, hold         uint8 // checkpoints, a bit each; the newest that claims allow
	segments, deadlist uint8 // what it decided to delete
}

type mState struct {
	stored, closed    uint8 // segments stored; 1: the epoch is closed
	segment, ck       uint8 // what is there
	published         uint8 // checkpoints that ever were
	late              uint8 // checkpoints under way
	delSegment, delCk uint8 // deletions under way
	top               uint8 // newest epoch - 1
	seal              uint8 // the segment that sealed the snapshot
	done, gone, ended bool

	table uint8 // the checkpoint whose pages the writer's table names
	dead  bool

	replica, from uint8 // what it does, from which checkpoint on
	by            [4]collecting
	opener        struct{ pc, epoch, start, end, table uint8 }
}

func bit(k uint8) uint8 { return 1 << k }

func top(mask uint8) uint8 { return uint8(max(bits.Len8(mask), 1) - 1) }

// lists returns the segment that a checkpoint lists.
func (s mState) lists(ck uint8) uint8 {
	if ck == mOwn {
		return s.stored
	}
	return ck
}

func (s mState) has(segment uint8) bool { return segment == 0 || s.segment&bit(segment) != 0 }

func (s mState) hasCk(ck uint8) bool { return ck == 0 || s.ck&bit(ck) != 0 }

type push func(n mState, format string, args ...any)

// wrong reports what must not be.
func (s mState) wrong() string {
	if s.done && !s.gone && !(s.hasCk(s.seal) && s.has(s.seal)) {
		return fmt.Sprintf("snapshot at %d lacks its checkpoint or segment", s.seal)
	}
	if s.replica == 2 {
		for k := s.from; k <= s.stored; k++ {
			if !s.has(k) {
				return fmt.Sprintf("the replica claims from %d on, %d is gone", s.from, k)
			}
		}
		if !s.hasCk(s.from) {
			return fmt.Sprintf("the replica's checkpoint %d is gone", s.from)
		}
	}
	if s.ended {
		return ""
	}
	if n := top(s.published); !s.hasCk(n) || !s.has(s.lists(n)) {
		return fmt.Sprintf("the newest checkpoint %d, or what it lists, is gone", n)
	}
	if s.top == 0 && !s.dead && !(s.has(s.stored) && s.hasCk(s.table)) {
		return "the writer's head is gone"
	}
	if o := s.opener; o.pc == 4 && s.top == o.epoch && !(o.end == s.stored && s.has(s.stored) && s.hasCk(o.table)) {
		return fmt.Sprintf("epoch %d serves up to %d of %d, its head may be gone", o.epoch+1, o.end, s.stored)
	}
	return ""
}

func (s mState) step(r rules, push push) {
	s.arrive(push)
	s.write(r, push)
	s.snapshot(r, push)
	if r.cast.replica {
		s.replicate(r, push)
	}
	if r.cast.opener {
		s.open(r, push)
	}
	for i := range s.by {
		if i == 0 || i <= r.cast.alone || i == 3 {
			s.collect(r, i, push)
		}
	}
}

func (s mState) arrive(push push) {
	for k := uint8(1); k <= mOwn; k++ {
		if n := s; s.late&bit(k) != 0 {
			n.ck, n.published = n.ck|bit(k), n.published|bit(k)
			push(n, "checkpoint %d arrives", k)
		}
		if n := s; s.delSegment&bit(k) != 0 {
			n.segment &^= bit(k)
			push(n, "segment %d is deleted", k)
		}
		if n := s; s.delCk&bit(k) != 0 {
			n.ck &^= bit(k)
			push(n, "checkpoint %d is deleted", k)
		}
	}
}

// write is what the first writer does. It learns late that it is fenced.
func (s mState) write(r rules, push push) {
	if s.dead {
		return
	}
	if n := s; s.closed == 0 && s.stored < mSegments {
		n.stored++
		n.segment |= bit(n.stored)
		push(n, "segment %d is stored", n.stored)
		if s.seal == 0 && r.cast.snapshot {
			n.seal = n.stored
			push(n, "segment %d is stored, with a seal", n.stored)
		}
	}
	if s.stored > s.table && (s.seal == 0 || s.seal == s.stored || s.table >= s.seal) {
		n := s
		n.late |= bit(s.stored)
		push(n, "checkpoint %d is sent", s.stored)
		n.ck, n.published, n.table = n.ck|bit(s.stored), n.published|bit(s.stored), s.stored
		push(n, "checkpoint %d is published", s.stored)
	}
	n := s
	n.dead = true
	push(n, "the writer dies")
}

func (s mState) snapshot(r rules, push push) {
	if n := s; !s.dead && s.seal != 0 && !s.done && s.table >= s.seal && s.published&bit(s.seal) != 0 && (s.top == 0 || r.completeUnlooked) {
		n.done = true
		push(n, "the snapshot is complete")
	}
	if n := s; s.done && !s.gone {
		n.gone = true
		push(n, "the snapshot is let go")
	}
	if n := s; r.cast.ends && !s.ended && (s.replica != 1 && s.replica != 2 || r.endedEarly) {
		n.ended = true
		push(n, "the log is let go")
	}
}

func (s mState) replicate(r rules, push push) {
	n := s
	switch s.replica {
	case 0: // it has read which is the newest, and claims it, later
		for k := uint8(0); k <= top(s.published); k++ {
			if n := s; k == 0 || s.published&bit(k) != 0 {
				n.replica, n.from = 1, k
				push(n, "the replica claims from %d on", k)
			}
		}
	case 1:
		if n.replica = 2; !r.unlookedClaim && (s.ended || top(s.ck) != s.from) {
			n.replica = 3
		}
		push(n, "the replica looks: %d", n.replica)
	case 2:
		n.replica = 3
		push(n, "the replica releases")
	}
}

// open is what the second writer does.
func (s mState) open(r rules, push push) {
	n, o := s, s.opener
	switch o.pc {
	case 0:
		if s.top+1 == mEpochs || s.ended {
			return
		}
		if r.openBefore {
			n.opener.start = top(s.ck)
			n.opener.pc = 9
			push(n, "an opener begins behind %d", n.opener.start)
			return
		}
		n.top++
		n.opener.pc, n.opener.epoch = 1, n.top
		push(n, "an opener claims epoch %d", n.top+1)
	case 9:
		if s.top+1 == mEpochs {
			return
		}
		n.top++
		n.opener.pc, n.opener.epoch, n.opener.end, n.opener.table = 2, n.top, o.start, o.start
		push(n, "the opener claims epoch %d", n.top+1)
	case 1:
		n.opener.pc, n.opener.start = 2, top(s.ck)
		n.opener.end, n.opener.table = s.lists(n.opener.start), n.opener.start
		push(n, "the opener begins behind %d", n.opener.start)
	case 2:
		if o.end < mSegments && s.segment&bit(o.end+1) != 0 {
			n.opener.end++
			push(n, "the opener finds segment %d", n.opener.end)
			return
		}
		n.closed, n.opener.pc = 1, 3
		push(n, "the opener closes behind %d", o.end)
	case 3:
		if n.opener.pc = 4; s.top != o.epoch {
			n.opener.pc = 5
		}
		push(n, "the opener looks: %d", n.opener.pc)
	case 4:
		if s.published&bit(mOwn) == 0 && o.end == s.stored {
			n.ck, n.published, n.opener.table = s.ck|bit(mOwn), s.published|bit(mOwn), mOwn
			push(n, "the second writer publishes a checkpoint")
		}
	}
}

// collect is what the writers, 0 and 3, and the collectors, 1 and 2, do.
func (s mState) collect(r rules, i int, push push) {
	n := s
	x := &n.by[i]
	switch x.pc {
	case 0, 6:
		switch {
		case i == 0 && s.dead, i == 3 && (s.opener.pc != 4 || s.published&bit(mOwn) == 0 && !r.asOfOthers):
			return
		case i == 3:
			x.epoch = s.opener.epoch
		case i == 0:
		case r.unclaimed:
			x.epoch = s.top
		case r.planBefore && x.pc == 0:
			x.pc, x.seen = 6, s.ck
			push(n, "%d lists checkpoints %b", i, x.seen)
			return
		case s.top+1 == mEpochs:
			return
		default:
			n.top++
			n.closed = 1
			x.epoch = n.top
		}
		x.ended = s.ended && i > 0 && i < 3
		x.pc = 1
		push(n, "%d collects in epoch %d, ended %v", i, x.epoch+1, x.ended)
	case 1, 2:
		if (x.pc == 1) != r.claimsFirst {
			if !r.planBefore {
				x.seen = s.ck
			}
		} else if x.hold = mOwn; (s.replica == 1 || s.replica == 2) && !r.ignoresClaims {
			x.hold = s.from
		}
		x.pc++
		push(n, "%d lists: checkpoints %b, hold %d", i, x.seen, x.hold)
	case 3:
		if x.ended {
			n.decide(r, i, top(x.seen))
			push(n, "%d decides that all goes", i)
			return
		}
		for k := uint8(1); k <= x.hold; k++ {
			switch {
			case x.seen&bit(k) == 0:
			case i == 0 && (k == mOwn || k > s.table && !r.asOfUnknown):
			case i == 3 && k != mOwn && !r.asOfOthers:
			default:
				m := s
				m.decide(r, i, k)
				push(m, "%d decides as of %d", i, k)
			}
		}
	case 4:
		if s.top == x.epoch || r.unlooked {
			n.delSegment |= x.segments
			n.delCk |= x.deadlist
		}
		*x = collecting{pc: 5}
		push(n, "%d looks, and sends its deletions", i)
	}
}

// decide is what a collector deletes as of a checkpoint.
func (s *mState) decide(r rules, i int, asOf uint8) {
	x := &s.by[i]
	x.pc = 4
	pinned := s.seal != 0 && s.seal <= asOf && !s.gone && !r.ignoresSnapshots
	for k := uint8(1); k <= mOwn; k++ {
		covered := k < asOf || x.ended
		if pinned && k == s.seal || !covered {
			continue
		}
		if k <= mSegments && (x.ended || k != s.lists(asOf)) && s.segment&bit(k) != 0 {
			x.segments |= bit(k)
		}
		if x.seen&bit(k) != 0 && (k != asOf || !pinned) {
			x.deadlist |= bit(k)
		}
	}
}

// explore visits the states of a variant, those with the fewest steps first, and
// returns how it can go wrong, how many it saw, and whether that were all.
func explore(r rules, limit int) (trace []string, states int, all bool) {
	type from struct {
		state int32
		what  string
	}
	index := map[mState]bool{{}: true}
	queue, came := []mState{{}}, []from{{-1, ""}}
	at := 0
	for ; at < len(queue) && len(queue) < limit; at++ {
		if wrong := queue[at].wrong(); wrong != "" {
			trace = []string{wrong}
			for x := int32(at); x > 0; x = came[x].state {
				trace = append(trace, came[x].what)
			}
			slices.Reverse(trace)
			return trace, len(queue), false
		}
		queue[at].step(r, func(n mState, format string, args ...any) {
			if !index[n] {
				index[n] = true
				queue = append(queue, n)
				came = append(came, from{int32(at), fmt.Sprintf(format, args...)})
			}
		})
	}
	return nil, len(queue), at == len(queue)
}

// TestModel: collection holds within the bounds, and each rule, left out, is
// caught: so none is idle, and the checker sees.
func TestModel(t *testing.T) {
	limit, most := 150_000, 1_000_000
	if os.Getenv("HOLKAS_SOAK") != "" {
		limit, most = 6_000_000, 6_000_000
	}
	for _, row := range []struct {
		name   string
		rules  rules
		broken bool
	}{
		{name: "a writer and a snapshot", rules: rules{cast: cast{snapshot: true}}},
		{name: "two writers", rules: rules{cast: cast{opener: true}}},
		{name: "a replica", rules: rules{cast: cast{replica: true, alone: 1}}},
		{name: "two collectors, a snapshot", rules: rules{cast: cast{snapshot: true, alone: 2}}},
		{name: "the end of a log", rules: rules{cast: cast{snapshot: true, ends: true, alone: 1}}},
		{name: "all", rules: rules{cast: cast{opener: true, replica: true, snapshot: true, ends: true, alone: 2}}},

		{name: "deletes without a look", rules: rules{unlooked: true, cast: cast{opener: true}}, broken: true},
		{name: "claims no epoch", rules: rules{unclaimed: true, cast: cast{opener: true, alone: 1}}, broken: true},
		{name: "ignores snapshots", rules: rules{ignoresSnapshots: true, cast: cast{snapshot: true}}, broken: true},
		{name: "ignores claims", rules: rules{ignoresClaims: true, cast: cast{replica: true}}, broken: true},
		{name: "lists claims first", rules: rules{claimsFirst: true, cast: cast{replica: true}}, broken: true},
		{name: "claims without a look", rules: rules{unlookedClaim: true, cast: cast{replica: true}}, broken: true},
		{name: "as of another writer's", rules: rules{asOfOthers: true, cast: cast{opener: true}}, broken: true},
		{name: "as of an unknown one", rules: rules{asOfUnknown: true}, broken: true},
		{name: "completes without a look", rules: rules{completeUnlooked: true, cast: cast{snapshot: true, ends: true, alone: 1}}, broken: true},
		{name: "ended while claimed", rules: rules{endedEarly: true, cast: cast{replica: true, ends: true, alone: 1}}, broken: true},
		{name: "ended, planned before the claim", rules: rules{planBefore: true, cast: cast{snapshot: true, ends: true, alone: 1}}, broken: true},
		{name: "reads the checkpoint before the claim", rules: rules{openBefore: true, cast: cast{opener: true}}, broken: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			bound := limit
			if row.broken {
				bound = most
			}
			trace, states, all := explore(row.rules, bound)
			switch {
			case row.broken && trace == nil:
				t.Errorf("not caught in %d states (all %v)", states, all)
			case !row.broken && trace != nil:
				t.Errorf("after %d states:\n%s", states, strings.Join(trace, "\n"))
			default:
				t.Logf("%d states (all %v), %d steps", states, all, len(trace))
			}
		})
	}
}
