package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
)

func TestKindOf(t *testing.T) {
	exhausted := fault.New(fault.Exhausted, "pool %q: full", "a")
	for _, c := range []struct {
		name string
		err  error
		want fault.Kind
	}{
		{"untyped", io.ErrUnexpectedEOF, fault.Internal},
		{"typed", exhausted, fault.Exhausted},
		{"wrapped by fmt", fmt.Errorf("x: %w", exhausted), fault.Exhausted},
		{"wrapped", fault.Wrap(exhausted, "create", "v-1"), fault.Exhausted},
		{"outermost wins", fault.As(fault.Transient, exhausted), fault.Transient},
		{"canceled", fmt.Errorf("x: %w", context.Canceled), fault.Canceled},
		{"deadline", fault.Wrap(context.DeadlineExceeded, "x", ""), fault.Deadline},
		{"joined", errors.Join(io.EOF, exhausted), fault.Exhausted},
	} {
		if got := fault.KindOf(c.err); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestNilStaysNil(t *testing.T) {
	if fault.Wrap(nil, "a", "b") != nil || fault.As(fault.Busy, nil) != nil || fault.Is(nil, fault.Internal) {
		t.Error("no error became one")
	}
}

func TestMessage(t *testing.T) {
	cause := fault.New(fault.Invalid, "size %d", 7)
	for want, err := range map[string]error{
		"create volume v-1: size 7": fault.Wrap(cause, "create volume", "v-1"),
		"create volume: size 7":     fault.Wrap(cause, "create volume", ""),
		"v-1: size 7":               fault.Wrap(cause, "", "v-1"),
		"size 7":                    fault.As(fault.Busy, cause),
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
		if !errors.Is(err, cause) {
			t.Errorf("%q hides its cause", err)
		}
	}
}

// TestNumbers pins what travels in the internal API.
func TestNumbers(t *testing.T) {
	for want, name := range []string{
		"internal", "invalid", "not found", "exists", "in use", "busy", "exhausted", "out of range",
		"transient", "fenced", "corrupt", "unsupported", "precondition", "canceled", "deadline exceeded",
	} {
		if got := fault.Kind(want).String(); got != name {
			t.Errorf("kind %d is %q, want %q", want, got, name)
		}
	}
}
