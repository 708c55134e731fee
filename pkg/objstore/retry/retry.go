package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Options of New. The zero value has the defaults.
type Options struct {
	// Try bounds one try, to which each MiB of the body adds a second. Default
	// 30 s.
	Try time.Duration
	// Total bounds a call. Default 2 min.
	Total time.Duration
	// Wait bounds the first wait, and doubles. Default 50 ms.
	Wait time.Duration
	// MaxWait is where it stops doubling. Default 5 s.
	MaxWait time.Duration
	// Random returns numbers in [0, 1), from any goroutine. Default: math/rand's.
	Random func() float64
}

const (
	defaultTry     = 30 * time.Second
	defaultTotal   = 2 * time.Minute
	defaultWait    = 50 * time.Millisecond
	defaultMaxWait = 5 * time.Second
	// slowFactor is how much longer to wait for a store that asks to slow down.
	slowFactor = 8
	// corruptTries is how often a read that is Corrupt is asked for.
	corruptTries = 3
	// maxExpected bounds the size for which a try gets more time.
	maxExpected = 64 << 20
)

// Validate reports all faults of the options, as Invalid.
func (o Options) Validate() error {
	var all []error
	for name, d := range map[string]time.Duration{"try": o.Try, "total": o.Total, "wait": o.Wait, "max wait": o.MaxWait} {
		if d < 0 {
			all = append(all, fault.New(fault.Invalid, "retry %s %s: want 0, for the default, or more", name, d))
		}
	}
	return errors.Join(all...)
}

// Store tries again what is Transient.
type Store struct {
	inner   objstore.Store
	options Options
}

var _ objstore.Store = (*Store)(nil)

// New returns a store that sends requests to inner, again where that may help.
func New(inner objstore.Store, o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	for d, byDefault := range map[*time.Duration]time.Duration{
		&o.Try: defaultTry, &o.Total: defaultTotal, &o.Wait: defaultWait, &o.MaxWait: defaultMaxWait,
	} {
		if *d == 0 {
			*d = byDefault
		}
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	return &Store{inner: inner, options: o}, nil
}

// call tries an operation until its outcome is final. Its size is what is sent or
// expected, in bytes.
func (s *Store) call(ctx context.Context, size int64, try func(context.Context) error) error {
	overall, cancel := context.WithTimeout(ctx, s.options.Total)
	defer cancel()
	bound := s.options.Try + time.Duration(min(size, maxExpected))*time.Second>>20
	corrupt := 0
	for n := 0; ; n++ {
		err := once(overall, bound, try)
		if fault.Is(err, fault.Corrupt) {
			corrupt++
		}
		if !passing(err) && (!fault.Is(err, fault.Corrupt) || corrupt == corruptTries) {
			return err
		}
		if ctx.Err() == nil && errors.Is(err, objstore.ErrRefused) {
			return err
		}
		if !pause(overall, s.wait(n, err)) {
			return ended(ctx, n+1, err)
		}
	}
}

func once(ctx context.Context, bound time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return try(ctx)
}

// passing reports an error that says nothing for good. A context's end is one: it
// may be the try's own.
func passing(err error) bool {
	switch fault.KindOf(err) {
	case fault.Transient, fault.Canceled, fault.Deadline:
		return err != nil
	}
	return false
}

// wait returns how long to wait after the n-th try, which failed with err.
func (s *Store) wait(n int, err error) time.Duration {
	bound := s.options.Wait
	for ; n > 0 && bound < s.options.MaxWait; n-- {
		bound *= 2
	}
	bound = min(bound, s.options.MaxWait)
	if errors.Is(err, objstore.ErrSlowDown) {
		bound *= slowFactor
	}
	return time.Duration(s.options.Random() * float64(bound))
}

// pause waits, and reports whether the context still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// ended is the error of a call whose time ran out, the caller's or its own.
func ended(ctx context.Context, tries int, last error) error {
	if ctx.Err() != nil {
		return fault.New(fault.KindOf(ctx.Err()), "%w; the last of %d tries: %w", ctx.Err(), tries, last)
	}
	return fault.New(fault.Transient, "gave up after %d tries: %w", tries, last)
}
