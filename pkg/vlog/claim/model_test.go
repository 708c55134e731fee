package claim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// An explicit-state checker of the protocol: every order of every step of two
// claimers, two deleters and one who restores, whose requests may get lost, or
// arrive whenever and as often as they like once sent, and who may die at each
// step. It knows nothing of the code; TestHistories plays that.

// rules are what a variant of the protocol leaves out. The zero value obeys all.
type rules struct {
	listFirst     bool // lists the claims before it condemns
	lookFirst     bool // looks before it claims
	unlooked      bool // claims without looking
	unwithdrawn   bool // leaves a claim that came to nothing
	lostIsNothing bool // takes a lost reply for a claim that is not there
	bareRelease   bool // releases by deleting only
	shared        bool // two dependents with one claim
	overrule      bool // deletes whatever the verdict
	condemnFirst  bool // condemns before the verdict
	unraced       bool // restores without a verdict of its own
	listOnce      bool // lets go of what had a claim when it was listed
}

// What a claimer is about to do.
const (
	cCreate uint8 = iota
	cReleased
	cCondemned
	cPresent
	cHolds
	cRelease
	cDelete
	cDone
	cLooked // of one that looks first
)

// What a deleter is about to do.
const (
	dDecide uint8 = iota
	dCondemn
	dList0
	dList1
	dDelete
	dDone
)

type mState struct {
	claim, released                 [2]bool
	verdict                         Verdict
	condemned, gone                 bool
	sentClaim, sentRelease, sentOut [2]bool
	sentVerdict                     [3]bool
	sentCondemned, sentDelete       bool
	claimer                         [2]uint8
	deleter                         [2]uint8
	restored, refused               bool
	deaths                          uint8
}

type push func(n mState, format string, args ...any)

func (s mState) live(r rules, i int) bool { return s.claim[i] && (!s.released[i] || r.bareRelease) }

func (s *mState) decide(v Verdict) {
	s.sentVerdict[v] = true
	if s.verdict == Undecided {
		s.verdict = v
	}
}

func (s mState) step(r rules, push push, wrong func(format string, args ...any)) {
	for i, c := range s.claimer {
		if c == cHolds && s.gone {
			wrong("claimer %d holds what is gone", i)
		}
	}
	if s.restored && (s.gone || s.condemned) {
		wrong("restored, and yet gone %v, condemned %v", s.gone, s.condemned)
	}
	if end := s.end(); end.verdict != Restore && (end.live(r, 0) || end.live(r, 1)) {
		wrong("a claim that nobody holds stays for ever")
	}
	s.arrive(push)
	for i := range 2 {
		s.claims(r, i, push)
		s.deletes(r, i, push)
	}
	if !s.restored && !s.refused {
		n := s
		if n.sentVerdict[Restore] = true; s.sentVerdict != n.sentVerdict {
			push(n, "a restore is sent")
		}
		n = s
		if !r.unraced {
			n.decide(Restore)
		}
		n.restored = n.verdict != Delete
		n.refused = !n.restored
		push(n, "restored: %v", n.restored)
	}
}

// end is what is left once everybody has finished and everything has arrived.
func (s mState) end() mState {
	for i, c := range s.claimer {
		if c != cDone {
			if s.sentRelease[i], s.released[i] = true, true; c != cCreate {
				s.claim[i] = false
			}
		}
		s.claim[i] = s.claim[i] || s.sentClaim[i]
	}
	return s
}

// arrive lets what was sent arrive, again and again.
func (s mState) arrive(push push) {
	for i := range 2 {
		if n := s; s.sentClaim[i] {
			n.claim[i] = true
			push(n, "claim %d arrives", i)
		}
		if n := s; s.sentRelease[i] {
			n.released[i] = true
			push(n, "release %d arrives", i)
		}
		if n := s; s.sentOut[i] {
			n.claim[i] = false
			push(n, "the deletion of claim %d arrives", i)
		}
	}
	for _, v := range []Verdict{Delete, Restore} {
		if n := s; s.sentVerdict[v] && s.verdict == Undecided {
			n.verdict = v
			push(n, "verdict %d arrives", v)
		}
	}
	if n := s; s.sentCondemned {
		n.condemned = true
		push(n, "condemned arrives")
	}
	if n := s; s.sentDelete {
		n.gone = true
		push(n, "the data goes")
	}
}

func (s mState) claims(r rules, i int, push push) {
	n, o := s, i
	if r.shared {
		o = 0
	}
	x := &n.claimer[i]
	next := func(bad bool, pc uint8) {
		switch {
		case !bad:
			*x = pc
		case r.unwithdrawn:
			*x = cDone
		default:
			*x = cRelease
		}
		push(n, "claimer %d goes from %d to %d", i, s.claimer[i], *x)
	}
	switch s.claimer[i] {
	case cCreate:
		if n.sentClaim[o] = true; !s.sentClaim[o] {
			if r.lostIsNothing {
				m := n
				m.claimer[i] = cDone
				push(m, "claimer %d takes its claim for lost", i)
			}
			push(n, "claim %d is sent", i)
		}
		if r.lookFirst && s.condemned {
			*x = cDone
			push(n, "claimer %d finds it condemned", i)
			return
		}
		if r.lookFirst {
			n = s
			*x = cLooked
			push(n, "claimer %d looked", i)
			return
		}
		n.claim[o] = true
		if r.unlooked {
			next(false, cHolds)
		} else {
			next(false, cReleased)
		}
	case cLooked:
		n.claim[o], n.sentClaim[o] = true, true
		next(false, cHolds)
	case cReleased:
		next(s.released[o] && !r.bareRelease, cCondemned)
	case cCondemned:
		next(s.condemned, cPresent)
	case cPresent:
		next(s.gone, cHolds)
	case cHolds:
		next(false, cRelease)
	case cRelease:
		n.sentRelease[o] = true
		if n != s {
			push(n, "release %d is sent", i)
		}
		n.released[o] = true
		next(false, cDelete)
	case cDelete:
		n.sentOut[o] = true
		if n != s {
			push(n, "the deletion of claim %d is sent", i)
		}
		n.claim[o] = false
		next(false, cDone)
	}
	if c := s.claimer[i]; s.deaths < 1 && c != cDone && c != cHolds && c != cCreate {
		n := s
		n.deaths++
		if n.claimer[i] = cCreate; c == cRelease || c == cDelete {
			n.claimer[i] = cRelease
		}
		push(n, "claimer %d dies and resumes", i)
	}
	if s.claimer[i] == cCreate && s.sentClaim[o] {
		n := s
		n.claimer[i] = cRelease
		push(n, "claimer %d gives up", i)
	}
}

func (s mState) deletes(r rules, i int, push push) {
	n := s
	x := &n.deleter[i]
	next := func(pc uint8) {
		*x = pc
		push(n, "deleter %d goes from %d to %d", i, s.deleter[i], pc)
	}
	switch s.deleter[i] {
	case dDecide:
		if r.condemnFirst && !s.condemned {
			n.condemned = true
			push(n, "deleter %d condemns", i)
			return
		}
		n.sentVerdict[Delete] = true
		if n != s {
			push(n, "a verdict is sent")
		}
		switch n.decide(Delete); {
		case n.verdict != Delete && !r.overrule:
			next(dDone)
		case r.listFirst:
			next(dList0)
		default:
			next(dCondemn)
		}
	case dCondemn:
		if n.sentCondemned = true; n != s {
			push(n, "condemned is sent")
		}
		if n.condemned = true; r.listFirst {
			next(dDelete)
		} else {
			next(dList0)
		}
	case dList0, dList1: // pages of one listing
		switch {
		case s.live(r, int(s.deleter[i]-dList0)) && !r.listOnce:
			next(dList0)
		case s.deleter[i] == dList1 && r.listFirst:
			next(dCondemn)
		default:
			next(s.deleter[i] + 1)
		}
	case dDelete:
		n.sentDelete = true
		next(dDone)
	}
	if s.deaths < 1 && s.deleter[i] != dDecide && s.deleter[i] != dDone {
		n := s
		n.deaths++
		n.deleter[i] = dDecide
		push(n, "deleter %d dies and resumes", i)
	}
}

// explore visits all states of a variant, those with the fewest steps first, and
// returns how it can go wrong, and how many states it saw.
func explore(r rules) (trace []string, states int) {
	type from struct {
		state int
		what  string
	}
	index := map[mState]bool{{}: true}
	queue, came := []mState{{}}, []from{{-1, ""}}
	for at := 0; at < len(queue) && trace == nil; at++ {
		queue[at].step(r,
			func(n mState, format string, args ...any) {
				if !index[n] {
					index[n] = true
					queue = append(queue, n)
					came = append(came, from{at, fmt.Sprintf(format, args...)})
				}
			},
			func(format string, args ...any) {
				trace = []string{fmt.Sprintf(format, args...)}
				for x := at; x > 0; x = came[x].state {
					trace = append(trace, came[x].what)
				}
			})
	}
	slices.Reverse(trace)
	return trace, len(queue)
}

// TestModel: the protocol holds in every state, and each rule, left out, is
// caught: so none is idle, and the checker sees.
func TestModel(t *testing.T) {
	for name, r := range map[string]rules{
		"":                               {},
		"lists before it condemns":       {listFirst: true},
		"looks before it claims":         {lookFirst: true},
		"claims without looking":         {unlooked: true},
		"does not withdraw":              {unwithdrawn: true},
		"takes a lost reply for nothing": {lostIsNothing: true},
		"releases by deleting":           {bareRelease: true},
		"shares a claim":                 {shared: true},
		"deletes against the verdict":    {overrule: true},
		"condemns before the verdict":    {condemnFirst: true},
		"restores without a verdict":     {unraced: true},
		"lets go of what is claimed":     {listOnce: true},
	} {
		switch trace, states := explore(r); {
		case name == "" && trace != nil:
			t.Errorf("after %d states:\n%s", states, strings.Join(trace, "\n"))
		case name != "" && trace == nil:
			t.Errorf("%s: not caught in %d states", name, states)
		default:
			t.Logf("%q: %d states, %d steps", name, states, len(trace))
		}
	}
}
