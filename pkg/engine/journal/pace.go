package journal

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// smoothing is the time over which what is left of the ring is spread.
const smoothing = 10 * time.Second

// pace is the backpressure; its fields but gate are guarded by Journal.mu.
type pace struct {
	gate     chan struct{} // held by the one that waits for its turn
	moved    chan struct{} // closed when space was given back, or all is over
	reserved int64         // bytes admitted, not written yet
	waiting  int           // who is at the gate

	due  time.Time // when the next append may come
	size float64
}

func (p *pace) init(size int64) {
	p.gate, p.moved, p.size = make(chan struct{}, 1), make(chan struct{}), float64(size)
}

func (p *pace) wake() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// gaveBack says that there is more room: what was owed at the old rate is forgiven.
func (p *pace) gaveBack() {
	p.due = time.Time{}
	p.wake()
}

// charge returns how long an append of so many bytes keeps the next one waiting
// when a part f is in use.
func (p *pace) charge(bytes int64, f float64) time.Duration {
	if f <= 0.5 {
		return 0
	}
	rate := p.size / smoothing.Seconds() * (1 - f) / (2*f - 1)
	return time.Duration(min(float64(bytes)/rate, 3600) * float64(time.Second))
}

// admit waits until there is room for so many bytes and it is their turn, and
// reserves them.
func (j *Journal) admit(ctx context.Context, need int64) error {
	j.mu.Lock()
	if j.pace.waiting == 0 && j.admitLocked(need, time.Time{}) {
		defer j.mu.Unlock()
		return j.admittedLocked(ctx, need)
	}
	j.pace.waiting++
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.pace.waiting--
		j.mu.Unlock()
	}()
	select {
	case j.pace.gate <- struct{}{}: // in the order of arrival
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-j.pace.gate }()
	return j.waitForTurn(ctx, need)
}

// waitForTurn waits at the head of all that wait.
func (j *Journal) waitForTurn(ctx context.Context, need int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		t := time.Now()
		if j.admitLocked(need, t) {
			return j.admittedLocked(ctx, need)
		}
		wait := time.Hour // for space
		if j.usedLocked()+j.pace.reserved+need <= j.ring.limit() {
			wait = j.pace.due.Sub(t)
		}
		moved, timer := j.pace.moved, time.NewTimer(wait)
		j.mu.Unlock()
		select {
		case <-moved:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		j.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// admitLocked reserves need if it has room and its turn has come, or there is no
// more waiting since the journal failed. With a zero time it admits only what need
// not wait.
func (j *Journal) admitLocked(need int64, t time.Time) bool {
	used := j.usedLocked() + j.pace.reserved + need
	f := float64(used) / float64(j.ring.limit())
	switch {
	case j.err != nil, !j.begun:
	case used > j.ring.limit(), f > 0.5 && (t.IsZero() || t.Before(j.pace.due)):
		return false
	case f > 0.5:
		j.pace.due = t.Add(j.pace.charge(need, f))
	}
	j.pace.reserved += need
	return true
}

// admittedLocked takes the reservation back if nothing can be appended.
func (j *Journal) admittedLocked(ctx context.Context, need int64) error {
	err := ctx.Err()
	switch {
	case j.err != nil:
		err = j.err
	case !j.begun:
		err = fault.New(fault.Precondition, "journal %s: no epoch has begun", j.options.Path)
	}
	if err != nil {
		j.pace.reserved -= need
	}
	return err
}
