package epoch

import (
	"fmt"
	"math/bits"
)

// An explicit-state checker of the protocol: every order of every step of two
// nodes, of requests under way and of a stalled deleter, up to bounds. It knows
// nothing of the code; TestHistories plays the code itself. Here the promises of
// both classes, journals, recycling, checkpoints, collection and settling are
// together, and the rules that the code relies on others to keep.
//
// A write is a bit. Object class: acknowledged when its segment counts. Journal
// class: when it is in the node's journal.

const (
	mEpochs = 3 // epoch 1 is served by node 0 when it begins
	mSlots  = 4
	mWrites = 2 // per epoch

	mSegment = uint16(1) << 15
	mMarker  = uint16(1) << 14
	mClean   = uint16(1) << 13
	mMask    = uint16(1)<<(mEpochs*mWrites) - 1
)

// rules are what a variant of the protocol obeys. The zero value obeys all.
type rules struct {
	journal   bool // the class; the other one is object
	collector bool // nodes may also claim to collect

	formerOnly        bool // closes the former epoch only
	checkpointBefore  bool // uses the checkpoint that it read before its claim
	deleteUnlooked    bool // deletes without looking for a later epoch after its checkpoint
	deleteMarkers     bool // deletes markers as well
	barrierEnds       bool // takes the marker that it put ahead for the end
	recycleStored     bool // recycles what is stored, not what counts
	ackStored         bool // acknowledges what is stored, not what counts
	existsIsMine      bool // takes any object in the slot for its own
	undecided         bool // opens whatever others may have promised
	decideAfter       bool // decides after it closed
	collectorSettles  bool // a collector's clean close settles, and it opens undecided
	forgetSettled     bool // a collector's checkpoint settles only what the one before did
	recycleReplayed   bool // recycles what it has replayed before that counts
	serveUnlooked     bool // serves without looking for a later epoch
	countBehindMarker bool // goes on behind a marker
}

type mPC uint8

const (
	mIdle    mPC = iota
	mDecided     // surveyed; claims epoch e if that is still next
	mClaimed
	mClosing
	mServing
)

type mNode struct {
	pc             mPC
	e, t, s        uint8 // own epoch; epoch and slot that are looked at
	ckE, ckS       uint8 // the checkpoint that the walk began behind
	view           uint16
	own            [mSlots]uint16
	next, sent, ok uint8
	writes         uint8
	collects       bool
}

type mState struct {
	owner            [mEpochs + 1]uint8 // 1 + node
	collecting       uint8
	slot             [mEpochs + 1][mSlots]uint16
	put, mark        [mEpochs + 1]uint8 // requests under way: segments, markers
	ckPos, ckSettled [mEpochs + 1]uint8 // 1 + slots covered; 0: no checkpoint
	ckMask           [mEpochs + 1]uint16
	deleting         [mEpochs + 1]uint8
	content          [mEpochs + 1][mSlots]uint16 // of the segments under way
	node             [2]mNode
	journal          [2]uint16
	acked            uint16
	deaths           uint8
	ends             [mEpochs + 1]uint8 // 1 + where an epoch was found to end; for the checker only
}

func mBegin() (s mState) {
	s.owner[1] = 1
	s.node[0] = mNode{pc: mServing, e: 1}
	return s
}

// mClosed is a later state: epoch 1 has one segment, acknowledged, and its writer
// closed it.
func mClosed() (s mState) {
	s.owner[1] = 1
	s.slot[1][0], s.slot[1][1], s.acked = mSegment|1, mMarker|mClean, 1
	return s
}

func (s *mState) top() (e uint8) {
	for e = 1; e < mEpochs && s.owner[e+1] != 0; e++ {
	}
	return e
}

// newest returns the newest checkpoint below epoch limit.
func (s *mState) newest(limit uint8) (e, slots uint8, mask uint16) {
	for x := limit - 1; x >= 1; x-- {
		if s.ckPos[x] > 0 {
			return x, s.ckPos[x] - 1, s.ckMask[x]
		}
	}
	return 1, 0, 0
}

// unsettled reports whether an epoch that others than node i claimed, or anybody
// for a collector, may have promises left.
func (s *mState) unsettled(r rules, i int, collects bool) bool {
	if !r.journal {
		return false
	}
	top := s.top()
	ckE, ckS, _ := s.newest(top + 1)
	settled := uint8(0)
	if s.ckPos[ckE] > 0 {
		settled = s.ckSettled[ckE]
	}
	for e := ckE; e <= top; e++ {
		from := uint8(0)
		if e == ckE {
			from = ckS
		}
		for x := from; x < mSlots; x++ {
			v := s.slot[e][x]
			if v&mClean != 0 && (s.collecting>>e&1 == 0 || r.collectorSettles) {
				settled = max(settled, e)
			}
			if v == 0 || v&mMarker != 0 {
				break
			}
		}
	}
	for e := settled + 1; e <= top; e++ {
		if s.collecting>>e&1 == 0 && (s.owner[e] != uint8(i+1) || collects) {
			return true
		}
	}
	return false
}

// step calls push with every state that may follow s, and what happened; wrong
// with what must not be.
func (s mState) step(r rules, push func(n mState, format string, args ...any), wrong func(n mState, format string, args ...any)) {
	if s.unsettled(r, 0, false) && s.unsettled(r, 1, false) && !r.undecided {
		wrong(s, "each node waits for the other's promises, for ever")
		return
	}
	s.deliver(r, push)
	for i := range 2 {
		switch s.node[i].pc {
		case mIdle, mDecided, mClaimed:
			s.open(r, i, push)
		case mClosing:
			s.close(r, i, push, wrong)
		case mServing:
			s.serve(r, i, push, wrong)
		}
		if s.node[i].pc != mIdle && s.deaths < 2 {
			n := s
			n.deaths++
			x := n.node[i]
			n.node[i] = mNode{}
			push(n, "node %d dies", i)
			if x.pc == mClosing && x.t < x.e && x.s < mSlots {
				n.mark[x.t] |= 1 << x.s
				push(n, "node %d dies, its marker for %d-%d under way", i, x.t, x.s)
			}
		}
	}
}

// deliver lets a request that is under way arrive: it may be answered or not, and
// may arrive again.
func (s mState) deliver(r rules, push func(mState, string, ...any)) {
	for e := uint8(1); e <= mEpochs; e++ {
		for x := range uint8(mSlots) {
			bit := uint8(1) << x
			if s.mark[e]&bit != 0 {
				n := s
				n.mark[e] &^= bit
				if n.slot[e][x] == 0 {
					n.slot[e][x] = mMarker
				}
				push(n, "late marker %d-%d arrives", e, x)
			}
			if s.deleting[e]&bit != 0 {
				n := s
				n.deleting[e] &^= bit
				if n.slot[e][x]&mMarker == 0 || r.deleteMarkers {
					n.slot[e][x] = 0
				}
				push(n, "%d-%d is deleted", e, x)
			}
			if s.put[e]&bit == 0 {
				continue
			}
			for again := range 2 {
				n := s
				if again == 0 {
					n.put[e] &^= bit
				}
				if n.slot[e][x] == 0 {
					n.slot[e][x] = s.content[e][x]
				}
				push(n, "put %d-%d arrives, no reply", e, x)
				o := &n.node[s.owner[e]-1]
				if o.pc != mServing || o.e != e {
					continue
				}
				if n.slot[e][x] == s.content[e][x] || r.existsIsMine {
					o.ok |= bit
				} else {
					*o = mNode{} // fenced
				}
				push(n, "put %d-%d arrives, reply too", e, x)
			}
		}
	}
}

func (s mState) open(r rules, i int, push func(mState, string, ...any)) {
	n := s
	x := &n.node[i]
	switch x.pc {
	case mIdle:
		if s.top() == mEpochs {
			return
		}
		for collects := range 2 {
			if collects == 1 && !r.collector {
				return
			}
			c := collects == 1
			if (!r.undecided && !r.decideAfter && !(c && r.collectorSettles)) && s.unsettled(r, i, c) {
				continue
			}
			*x = mNode{pc: mDecided, e: s.top() + 1, collects: c}
			x.ckE, x.ckS, x.view = s.newest(s.top() + 1)
			push(n, "node %d surveys, decides on epoch %d, collects %v", i, x.e, c)
		}
	case mDecided:
		if s.owner[x.e] != 0 {
			*x = mNode{}
			push(n, "node %d loses the claim", i)
			return
		}
		n.owner[x.e] = uint8(i + 1)
		if x.collects {
			n.collecting |= 1 << x.e
		}
		x.pc = mClaimed
		push(n, "node %d claims epoch %d", i, x.e)
	case mClaimed:
		if !r.checkpointBefore {
			x.ckE, x.ckS, x.view = s.newest(x.e)
			for e := x.e; e <= mEpochs; e++ {
				if s.ckPos[e] > 0 { // of a later epoch: fenced
					*x = mNode{}
					push(n, "node %d finds a later checkpoint", i)
					return
				}
			}
		}
		x.pc, x.t, x.s = mClosing, x.ckE, x.ckS
		push(n, "node %d begins behind %d-%d", i, x.ckE, x.ckS)
	}
}

func (s mState) close(r rules, i int, push, wrong func(mState, string, ...any)) {
	n := s
	x := &n.node[i]
	if x.t >= x.e {
		s.begin(r, i, push, wrong)
		return
	}
	if x.s >= mSlots {
		return
	}
	nextEpoch := func() { x.t++; x.s = 0 }
	ended := func() bool {
		if s.top() != x.e { // it will not serve; what it sees may be half deleted by its successor
			nextEpoch()
			return true
		}
		before := s.ends[x.t]
		n.ends[x.t] = 1 + x.s
		if before != 0 && before != 1+x.s {
			wrong(n, "epoch %d ends at slot %d for node %d, before at %d", x.t, x.s, i, before-1)
			return false
		}
		nextEpoch()
		return true
	}
	switch v := s.slot[x.t][x.s]; {
	case v&mSegment != 0:
		x.view |= v & mMask
		x.s++
		push(n, "node %d finds segment %d-%d", i, x.t, x.s-1)
	case v&mMarker != 0:
		if r.countBehindMarker && v&mClean == 0 && x.s+1 < mSlots && s.slot[x.t][x.s+1]&mSegment != 0 {
			x.s++
		} else if !ended() {
			return
		}
		push(n, "node %d finds a marker", i)
	case r.formerOnly && x.t+1 < x.e:
		nextEpoch()
		push(n, "node %d passes an end that is not closed", i)
	default:
		n.slot[x.t][x.s] = mMarker
		if !ended() {
			return
		}
		push(n, "node %d closes", i)
		if ahead := s.node[i].s + 2; ahead < mSlots && s.slot[s.node[i].t][ahead] == 0 {
			m := s
			m.slot[s.node[i].t][ahead] = mMarker
			if r.barrierEnds {
				m.node[i].t++
				m.node[i].s = 0
			}
			push(m, "node %d puts a marker ahead", i)
		}
	}
}

// begin is what follows the closing: whether and with what a node serves.
func (s mState) begin(r rules, i int, push, wrong func(mState, string, ...any)) {
	n := s
	x := &n.node[i]
	if s.top() != x.e && !r.serveUnlooked {
		*x = mNode{}
		push(n, "node %d finds a later epoch", i)
		return
	}
	if r.decideAfter {
		m := s
		m.owner[x.e] = 0 // what the others left, as if this claim were not
		if m.unsettled(r, i, x.collects) {
			*x = mNode{}
			push(n, "node %d refuses after closing", i)
			return
		}
	}
	replay := uint16(0)
	if r.journal && !x.collects {
		replay = s.journal[i] &^ x.view
		if r.recycleReplayed {
			n.journal[i] = 0
		}
	}
	y := mNode{pc: mServing, e: x.e, view: x.view, collects: x.collects}
	if replay != 0 {
		y.own[0], y.next = replay, 1
	}
	*x = y
	for e := uint8(1); e < y.e && !y.collects; e++ {
		mine := s.acked & (1<<(e*mWrites) - 1)
		if lost := mine &^ (y.view | replay); lost != 0 {
			wrong(n, "epoch %d is served without %06b, acknowledged %06b", y.e, lost, s.acked)
			return
		}
	}
	push(n, "node %d serves epoch %d with %06b", i, y.e, y.view|replay)
}

func (s mState) serve(r rules, i int, push, wrong func(mState, string, ...any)) {
	x := s.node[i]
	counted := uint8(bits.TrailingZeros8(^x.ok))
	sum := func(of uint8) (mask uint16) {
		for k := range x.next {
			if of>>k&1 == 1 {
				mask |= x.own[k]
			}
		}
		return mask
	}
	all := sum(1<<counted - 1)
	if x.writes < mWrites && x.next < mSlots-1 && !x.collects {
		n := s
		y := &n.node[i]
		w := uint16(1) << ((x.e-1)*mWrites + x.writes)
		y.own[x.next] = w
		y.next, y.writes = y.next+1, y.writes+1
		if r.journal {
			n.journal[i] |= w
			n.acked |= w
		}
		push(n, "node %d writes into %d-%d", i, x.e, x.next)
	}
	for k := range x.next {
		if x.sent>>k&1 == 0 || x.ok>>k&1 == 0 && s.put[x.e]>>k&1 == 0 {
			n := s
			n.node[i].sent |= 1 << k
			n.put[x.e] |= 1 << k
			n.content[x.e][k] = mSegment | x.own[k]
			push(n, "node %d sends %d-%d", i, x.e, k)
		}
	}
	ack := all
	if r.ackStored {
		ack = sum(x.ok)
	}
	if !r.journal && ack&^s.acked != 0 {
		n := s
		n.acked |= ack
		for _, o := range s.node {
			if o.pc == mServing && o.e > x.e && ack&^o.view != 0 {
				wrong(n, "%06b is acknowledged in epoch %d beside epoch %d, which has %06b", ack, x.e, o.e, o.view)
				return
			}
		}
		push(n, "node %d acknowledges %06b", i, ack)
	}
	recycle := all
	if r.recycleStored {
		recycle = sum(x.ok)
	}
	if recycle&s.journal[i] != 0 {
		n := s
		n.journal[i] &^= recycle
		push(n, "node %d recycles %06b", i, recycle)
	}
	s.maintain(r, i, counted, all, push)
}

// maintain is checkpoints, collection and the clean end.
func (s mState) maintain(r rules, i int, counted uint8, all uint16, push func(mState, string, ...any)) {
	x := s.node[i]
	if s.ckPos[x.e] < 1+counted && (counted > 0 || x.collects) {
		n := s
		n.ckPos[x.e], n.ckMask[x.e] = 1+counted, x.view|all
		if n.ckSettled[x.e] = x.e - 1; r.forgetSettled && x.collects {
			e, _, _ := s.newest(x.e)
			n.ckSettled[x.e] = s.ckSettled[e]
		}
		push(n, "node %d publishes checkpoint %d-%d", i, x.e, counted)
	}
	if s.ckPos[x.e] > 0 && (r.deleteUnlooked || s.top() == x.e) {
		n := s
		for e := uint8(1); e <= x.e; e++ {
			for k := range uint8(mSlots) {
				if (e < x.e || k < s.ckPos[x.e]-1) && s.slot[e][k] != 0 && (s.slot[e][k]&mMarker == 0 || r.deleteMarkers) {
					n.deleting[e] |= 1 << k
				}
			}
		}
		if n != s {
			push(n, "node %d decides to delete what %d-%d does not need", i, x.e, s.ckPos[x.e]-1)
		}
	}
	if counted == x.next && x.next < mSlots && s.slot[x.e][x.next] == 0 {
		n := s
		n.slot[x.e][x.next] = mMarker | mClean
		n.node[i] = mNode{}
		if !x.collects {
			n.journal[i] &^= x.view | all
		}
		push(n, "node %d closes epoch %d cleanly", i, x.e)
	}
}

// explore visits the states of a variant, those with the fewest steps first, and
// returns how it can go wrong, or how many states it saw.
func explore(begin mState, r rules, limit int) (trace []string, states int, exhausted bool) {
	type from struct {
		state int32
		what  string
	}
	index := map[mState]int32{}
	var queue []mState
	var came []from
	visit := func(n mState, f from) {
		if _, ok := index[n]; !ok {
			index[n] = int32(len(queue))
			queue = append(queue, n)
			came = append(came, f)
		}
	}
	visit(begin, from{-1, ""})
	for at := 0; at < len(queue) && len(queue) < limit; at++ {
		queue[at].step(r,
			func(n mState, format string, args ...any) {
				visit(n, from{int32(at), fmt.Sprintf(format, args...)})
			},
			func(_ mState, format string, args ...any) {
				if trace == nil {
					trace = []string{fmt.Sprintf(format, args...)}
					for x := int32(at); x > 0; x = came[x].state {
						trace = append(trace, came[x].what)
					}
				}
			})
		if trace != nil {
			return trace, len(queue), false
		}
		exhausted = at == len(queue)-1
	}
	return nil, len(queue), exhausted
}
