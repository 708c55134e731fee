package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/demo/site"
)

// do is one call, through one controller. It may be made many times.
type do func(context.Context, site.Clients) error

// caller makes calls as a sidecar does: again and again until the answer is
// final. It is for one goroutine.
type caller struct {
	world  *world
	random *rand.Rand
}

// fork returns a caller for another goroutine.
func (c caller) fork() caller {
	return caller{c.world, rand.New(rand.NewPCG(c.random.Uint64(), c.random.Uint64()))}
}

// mayRun reports whether the work behind an answer may still be under way: such
// an answer is not final.
func mayRun(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Aborted:
		return true
	}
	return false
}

// persist calls until the answer is final, each time through either controller
// and now and then with little patience, as if the reply was lost.
func (c caller) persist(what string, call do) error {
	deadline := time.Now().Add(2 * time.Minute)
	for attempt := 0; ; attempt++ {
		patience := 30 * time.Second
		if attempt < 4 && c.random.IntN(4) == 0 {
			patience = time.Duration(1+c.random.IntN(150)) * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := call(ctx, c.world.controllers[c.random.IntN(len(c.world.controllers))])
		cancel()
		if !mayRun(err) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: no final answer in two minutes: %w", what, err)
		}
		time.Sleep(time.Duration(5+c.random.IntN(50)) * time.Millisecond) // poll
	}
}

// must is persist for what has to succeed.
func (c caller) must(what string, call do) error {
	if err := c.persist(what, call); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// refused is persist for what has to be refused.
func (c caller) refused(what string, code codes.Code, call do) error {
	if err := c.persist(what, call); status.Code(err) != code {
		return fmt.Errorf("%s: got %v, want %s", what, err, code)
	}
	return nil
}

// race makes two calls at once and waits for the final answer to both.
func (c caller) race(what string, one, two do) (first, second error) {
	done, other := make(chan error), c.fork()
	go func() { done <- other.persist(what, two) }()
	first = c.persist(what, one)
	return first, <-done
}

// oneOf sees that the answer has one of these codes.
func oneOf(what string, err error, allowed ...codes.Code) error {
	for _, code := range allowed {
		if status.Code(err) == code {
			return nil
		}
	}
	return fmt.Errorf("%s: got %v, want one of %v", what, err, allowed)
}

// answer persists until a create succeeds, and then asks both controllers again:
// each must give the same reply, field by field.
func answer[R fmt.Stringer](c caller, what string, create func(context.Context, site.Clients) (R, error)) (R, error) {
	var reply R
	err := c.must(what, func(ctx context.Context, s site.Clients) (err error) {
		reply, err = create(ctx, s)
		return err
	})
	if err != nil {
		return reply, err
	}
	return reply, sameReply(c, what, reply.String(), create)
}

func sameReply[R fmt.Stringer](c caller, what, want string, create func(context.Context, site.Clients) (R, error)) error {
	for i := range c.world.controllers {
		var again R
		err := c.must(what+" again", func(ctx context.Context, _ site.Clients) (err error) {
			again, err = create(ctx, c.world.controllers[i])
			return err
		})
		if err != nil {
			return err
		}
		if again.String() != want {
			return fmt.Errorf("%s: answered with %q, and then with %q", what, want, again)
		}
	}
	return nil
}

// giveUp makes a call once and never again, with little patience.
func (c caller) giveUp(call do) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+c.random.IntN(60))*time.Millisecond)
	defer cancel()
	c.world.abandoned.Add(1)
	_ = call(ctx, c.world.controllers[c.random.IntN(len(c.world.controllers))]) // whatever it was
}
