package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

const (
	probeRounds   = 5
	probeCreators = 16
	// probeAge is how old what a probe left must be for another to remove it: far
	// longer than a probe, and than clocks differ.
	probeAge = 24 * time.Hour
	// probeCleanup bounds how long a probe tidies up after its context ended.
	probeCleanup = 30 * time.Second
)

// Probe tries whether a store keeps to what the project stands on: that of many
// that create an object at once exactly one succeeds, that a second creation is
// refused and changes nothing, and that reads and listings see what was written.
// Some servers take the condition and don't apply it, or not to concurrent
// requests. Unsupported if it does not, and the error says what it did.
//
// It works under a prefix of keys that nothing else uses, and removes what it
// made, also what a probe left that died a day ago. Several may probe at once.
func Probe(ctx context.Context, s Store, prefix string) error {
	if err := ValidateKey(prefix + "a"); err != nil {
		return fault.Wrap(err, "probe", prefix)
	}
	p := probe{store: s, root: fmt.Sprintf("%s%d-%s/", prefix, time.Now().Unix(), rand.Text())}
	err := p.run(ctx)
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanup)
	defer cancel()
	if len(p.keys) > 0 {
		err = errors.Join(err, s.Delete(tidy, p.keys...))
	}
	if err == nil {
		err = p.after(tidy)
	}
	if err == nil {
		err = sweep(tidy, s, prefix)
	}
	return fault.Wrap(err, "probe", prefix)
}

type probe struct {
	store Store
	root  string
	keys  []string // all that may exist
}

func (p *probe) run(ctx context.Context) error {
	for range probeRounds {
		if err := p.race(ctx); err != nil {
			return err
		}
	}
	if err := p.replace(ctx); err != nil {
		return err
	}
	return p.listed(ctx, "listed after they were created", p.keys)
}

// key returns a new key.
func (p *probe) key() string {
	key := p.root + strconv.Itoa(len(p.keys))
	p.keys = append(p.keys, key)
	return key
}

// race has many create one object at once.
func (p *probe) race(ctx context.Context) error {
	key := p.key()
	if err := p.reads(ctx, "read of an object that nobody created", key, nil); err != nil {
		return err
	}
	errs := make([]error, probeCreators)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			<-begin
			errs[i] = p.store.Create(ctx, key, body(key, i))
		})
	}
	close(begin)
	all.Wait()
	var winners []int
	for i, err := range errs {
		if err == nil {
			winners = append(winners, i)
		} else if !fault.Is(err, fault.Exists) {
			return err
		}
	}
	if len(winners) != 1 {
		return wrong("%d of %d concurrent creations of one object succeeded: want exactly 1", len(winners), probeCreators)
	}
	won := body(key, winners[0])
	if err := p.reads(ctx, "read of an object after its creation", key, won); err != nil {
		return err
	}
	// Later it must not be otherwise: some apply the condition to what is under
	// way only, or the other way round.
	if err := p.store.Create(ctx, key, body(key, probeCreators)); err == nil {
		return wrong("a second creation of an object succeeded: want it refused")
	} else if !fault.Is(err, fault.Exists) {
		return err
	}
	return p.reads(ctx, "read of an object after a second creation was refused", key, won)
}

// replace sees that reads see what was written last.
func (p *probe) replace(ctx context.Context) error {
	key := p.key()
	for i := range probeRounds {
		if err := p.store.Put(ctx, key, body(key, i)); err != nil {
			return err
		}
		if err := p.reads(ctx, "read of an object after it was replaced", key, body(key, i)); err != nil {
			return err
		}
		if err := p.store.Delete(ctx, key); err != nil {
			return err
		}
		if err := p.reads(ctx, "read of an object after its deletion", key, nil); err != nil {
			return err
		}
	}
	return p.store.Create(ctx, key, body(key, 0))
}

// reads wants an object to be there with a body, or with none not to be there.
func (p *probe) reads(ctx context.Context, what, key string, want []byte) error {
	got, err := p.store.Get(ctx, key)
	switch {
	case fault.Is(err, fault.NotFound) && want != nil:
		return wrong("%s: it found none", what)
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case want == nil:
		return wrong("%s: it found %d bytes", what, len(got))
	case !bytes.Equal(got, want):
		return wrong("%s: it found other bytes", what)
	}
	return nil
}

// after sees that what was deleted is not listed.
func (p *probe) after(ctx context.Context) error {
	return p.listed(ctx, "listed after they were deleted", nil)
}

func (p *probe) listed(ctx context.Context, what string, want []string) error {
	page, err := p.store.List(ctx, ListOptions{Prefix: p.root})
	if err != nil {
		return err
	}
	if got := len(page.Objects); got != len(want) || page.Next != "" {
		return wrong("objects %s: %d, want %d", what, got, len(want))
	}
	return nil
}

// sweep removes what probes left that died.
func sweep(ctx context.Context, s Store, prefix string) error {
	for o := (ListOptions{Prefix: prefix}); ; {
		page, err := s.List(ctx, o)
		if err != nil {
			return err
		}
		var old []string
		for _, object := range page.Objects {
			seconds, _, _ := strings.Cut(strings.TrimPrefix(object.Key, prefix), "-")
			if began, err := strconv.ParseInt(seconds, 10, 64); err == nil && time.Since(time.Unix(began, 0)) > probeAge {
				old = append(old, object.Key)
			}
		}
		if err := s.Delete(ctx, old...); err != nil {
			return err
		}
		if o.After = page.Next; o.After == "" {
			return nil
		}
	}
}

// body returns what one of several creators of an object writes.
func body(key string, creator int) []byte {
	return fmt.Appendf(nil, "holkas probe %s %d\n", key, creator)
}

func wrong(format string, args ...any) error {
	return fault.New(fault.Unsupported, "this store is not fit for use: "+format, args...)
}
