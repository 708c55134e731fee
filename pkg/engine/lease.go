package engine

import (
	"context"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// lease is for how long this node may acknowledge what another one would drop. It
// runs from the sending of the last look that saw no successor.
type lease struct {
	lasts time.Duration // 0: for ever
	mu    sync.Mutex
	from  time.Time
	look  chan struct{} // closed when the look that is under way ended; nil if there is none
}

// drift is by how much two clocks may differ in speed, as a share.
const drift = 8 // an eighth

// mayAcknowledge waits until this node has seen, within its lease, that it has no
// successor. Fenced if it has one.
func (v *Volume) mayAcknowledge(ctx context.Context) error {
	l := &v.lease
	if l.lasts == 0 {
		return v.Err()
	}
	for {
		if err := v.Err(); err != nil {
			return err
		}
		l.mu.Lock()
		age := v.e.o.Now().Sub(l.from)
		if age >= l.lasts/2 && l.look == nil {
			l.look = make(chan struct{})
			v.background(v.lookOnce)
		}
		look := l.look
		l.mu.Unlock()
		if age < l.lasts {
			return nil
		}
		select {
		case <-look:
		case <-ctx.Done():
			return ctx.Err()
		case <-v.ctx.Done():
			return v.ended()
		}
	}
}

// lookOnce looks for a successor until there is an answer.
func (v *Volume) lookOnce() {
	l := &v.lease
	var sent time.Time
	err := v.persist(v.ctx, func(ctx context.Context) error {
		sent = v.e.o.Now()
		return v.reign.Latest(ctx)
	})
	if err != nil && v.ctx.Err() == nil {
		v.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.from = sent
	}
	close(l.look)
	l.look = nil
}

// outlast waits until the lease of a writer that was taken over has ended for sure.
func outlast(ctx context.Context, lease time.Duration) error {
	select {
	case <-time.After(lease + lease/drift):
		return nil
	case <-ctx.Done():
		return fault.As(fault.KindOf(ctx.Err()), ctx.Err())
	}
}
