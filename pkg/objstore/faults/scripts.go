package faults

import (
	"math/rand/v2"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// What scripts answer with.
var (
	ErrBroken    = fault.New(fault.Transient, "injected: the connection broke before the request arrived")
	ErrLost      = fault.New(fault.Transient, "injected: the reply was lost")
	ErrThrottled = fault.New(fault.Transient, "injected: %w", objstore.ErrSlowDown)
	ErrDown      = fault.New(fault.Transient, "injected: the store is down")
)

// Rates are the probabilities of faults, each from 0 to 1, their sum at most 1: a
// request meets one of them at most.
type Rates struct {
	Before, Lost, Throttled, Silence float64
	Delay                            float64 // by up to MaxDelay
	Late, Again                      float64 // of changes, by up to MaxDelay
	Short, Flip                      float64 // of reads
	MaxDelay                         time.Duration
}

// Random returns a script by which requests meet faults at random, the same ones
// for the same seed.
func Random(seed uint64, rates Rates) Script {
	random := rand.New(rand.NewPCG(seed, 0))
	return func(r Request) Fault {
		at := random.Float64()
		delay := 1 + time.Duration(random.Float64()*float64(rates.MaxDelay))
		place := 1 + random.IntN(1<<20)
		hit := func(rate float64) bool {
			at -= rate
			return at < 0
		}
		switch {
		case hit(rates.Before):
			return Fault{Before: ErrBroken}
		case hit(rates.Lost):
			return Fault{Lost: ErrLost}
		case hit(rates.Throttled):
			return Fault{Before: ErrThrottled}
		case hit(rates.Silence):
			return Fault{Silence: true}
		case hit(rates.Delay):
			return Fault{Delay: delay}
		case r.Changes() && hit(rates.Late):
			return Fault{Late: delay}
		case r.Changes() && hit(rates.Again):
			return Fault{Again: delay}
		case !r.Changes() && hit(rates.Short):
			return Fault{Short: place}
		case !r.Changes() && hit(rates.Flip):
			return Fault{Flip: place}
		}
		return Fault{}
	}
}

// Outage returns a script by which nothing arrives from one instant until another.
func Outage(from, until time.Time) Script {
	return func(r Request) Fault {
		if r.Time.Before(from) || !r.Time.Before(until) {
			return Fault{}
		}
		return Fault{Before: ErrDown}
	}
}

// On returns a script by which the n-th request of a kind, from 1 on, meets a
// fault.
func On(op Op, n int, f Fault) Script {
	return func(r Request) Fault {
		if r.Op == op {
			n--
		}
		if r.Op != op || n != 0 {
			return Fault{}
		}
		return f
	}
}

// Join returns a script by which the first of some scripts speaks that has a fault
// for a request. All of them see it.
func Join(scripts ...Script) Script {
	return func(r Request) Fault {
		var first Fault
		for _, script := range scripts {
			if f := script(r); first == (Fault{}) {
				first = f
			}
		}
		return first
	}
}
