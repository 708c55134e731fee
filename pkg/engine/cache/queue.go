package cache

// state is what is known about a slot, beside the line in it.
type state uint8

const (
	hitsMask  state = 3 // reads since it last passed the end of its queue, up to 3
	queueMask state = 3 << 2
	young     state = 0 << 2
	old       state = 1 << 2
	proven    state = 2 << 2
	writing   state = 1 << 4 // blocks of it are being written
	doomed    state = 1 << 5 // to be dropped as soon as that is over
)

func (s state) queue() state { return s & queueMask }
func (s state) hits() state  { return s & hitsMask }

// queue is slots in the order in which they came, linked by index.next.
type queue struct {
	head, tail uint32 // slot + 1; 0: none
	length     int
}

func (x *index) push(q *queue, slot uint32) {
	x.next[slot] = 0
	if q.tail == 0 {
		q.head = slot + 1
	} else {
		x.next[q.tail-1] = slot + 1
	}
	q.tail = slot + 1
	q.length++
}

// pop takes the first slot; the queue has one.
func (x *index) pop(q *queue) uint32 {
	slot := q.head - 1
	if q.head = x.next[slot]; q.head == 0 {
		q.tail = 0
	}
	q.length--
	return slot
}

// enter puts a slot at the end of a queue, with no uses counted. So those in young
// are forgotten: a reader in sequence touches a line many times within moments,
// which proves nothing.
func (x *index) enter(slot uint32, q state) {
	x.states[slot] = x.states[slot]&^(queueMask|hitsMask) | q
	x.push(x.queueOf(q), slot)
	if q == young && x.queueOf(young).length > x.queueOf(old).length+1 {
		x.enter(x.pop(x.queueOf(young)), old)
	}
}

func (x *index) queueOf(s state) *queue { return &x.queues[s.queue()>>2] }

// patience is how many lines an eviction may pass over, so that its duration is
// bounded.
const patience = 64

// room returns a slot without a line and in no queue: a free one, or that of the
// line that is worth least. ok is false if there is none that can be had now.
func (x *index) room() (slot uint32, evicted, ok bool) {
	if x.free.length > 0 {
		return x.pop(&x.free), false, true
	}
	for tries := range 2 * patience {
		slot, ok := x.candidate()
		if !ok {
			return 0, false, false
		}
		s := x.states[slot]
		probation := s.queue() != proven
		switch {
		case x.prints[slot] == 0:
			return slot, false, true
		case s&writing != 0 && probation:
			x.enter(slot, young)
		case s&writing != 0:
			x.push(x.queueOf(proven), slot)
		case s.hits() > 0 && tries < patience && probation:
			x.enter(slot, proven)
		case s.hits() > 0 && tries < patience:
			x.states[slot]-- // one hit less
			x.push(x.queueOf(proven), slot)
		default:
			if probation {
				x.remember(x.prints[slot])
			}
			x.forget(slot)
			return slot, true, true
		}
	}
	return 0, false, false
}

// candidate takes the next slot to look at out of its queue: from probation while
// that has its tenth, else from the proven ones.
func (x *index) candidate() (slot uint32, ok bool) {
	youngs, olds, provens := x.queueOf(young), x.queueOf(old), x.queueOf(proven)
	probation := youngs.length + olds.length
	enough := probation >= max(1, len(x.prints)/10) || provens.length == 0
	switch {
	case enough && olds.length > 0:
		return x.pop(olds), true
	case enough && youngs.length > 0:
		return x.pop(youngs), true
	case provens.length > 0:
		return x.pop(provens), true
	}
	return 0, false
}

// remember notes that a line left probation, so that it is taken for proven if it
// comes back soon. What is noted is overwritten by later lines in time.
func (x *index) remember(p fingerprint) { x.ghosts[x.ghostAt(p)] = uint32(p >> 16) }

// remembered reports, and forgets, that a line left probation not long ago.
func (x *index) remembered(p fingerprint) bool {
	at := x.ghostAt(p)
	if x.ghosts[at] != uint32(p>>16) {
		return false
	}
	x.ghosts[at] = 0
	return true
}
