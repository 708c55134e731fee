package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// failing is a backend whose deletions fail in one way.
func failingWith(err error) *fake {
	return &fake{remove: func(context.Context, volume.ID) error { return err }}
}

// TestEveryFault sends every kind of error, in every way of making one, through
// a server and looks at it on the other side.
func TestEveryFault(t *testing.T) {
	var said error
	b := through(t, &fake{remove: func(context.Context, volume.ID) error { return said }})
	for kind := fault.Internal; kind <= fault.Deadline; kind++ {
		plain := fault.New(kind, "size_bytes: %d: want more, é%%", 7)
		for way, err := range map[string]error{
			"plain":         plain,
			"wrapped":       fault.Wrap(fault.Wrap(plain, "look", "there"), "delete volume", "v-1"),
			"wrapped by %w": fmt.Errorf("outer: %w", plain),
			"joined":        errors.Join(io.ErrUnexpectedEOF, plain, fault.New(fault.Exists, "second")),
			"made another":  fault.As(kind, fault.New(fault.Exhausted, "full")),
			"with lines":    fault.New(kind, "one\ntwo\x00\t\r\nthree"),
		} {
			said = err
			got := b.DeleteVolume(t.Context(), volume.NewID())
			if got == nil || fault.KindOf(got) != kind || got.Error() != err.Error() {
				t.Errorf("%s, %s: got %s, %q: want %q", kind, way, fault.KindOf(got), got, err)
			}
		}
	}
	for _, err := range []error{io.EOF, errors.New("untyped")} {
		said = err
		if got := b.DeleteVolume(t.Context(), volume.NewID()); fault.KindOf(got) != fault.Internal || got.Error() != err.Error() {
			t.Errorf("got %s, %q: want internal, %q", fault.KindOf(got), got, err)
		}
	}
}

// TestKindsHaveCodes sees that no kind was forgotten.
func TestKindsHaveCodes(t *testing.T) {
	for kind := fault.Internal; !strings.HasPrefix(kind.String(), "kind "); kind++ {
		if _, ok := codeOf[kind]; !ok {
			t.Errorf("%s has no code", kind)
		}
	}
}

func TestUnknownKindLeavesItOpen(t *testing.T) {
	for _, n := range []uint32{uint32(fault.Deadline) + 1, 200, 256, 1 << 31} {
		if got := kindOf(&agentpb.Fault{Kind: n}); got != fault.Transient {
			t.Errorf("kind %d is %s, want transient", n, got)
		}
	}
}

// TestAnyMessage sends messages that headers cannot carry as they are.
func TestAnyMessage(t *testing.T) {
	for name, c := range map[string]struct{ said, want string }{
		"not UTF-8":     {"a\xffb", "a�b"},
		"as long as is": {strings.Repeat("x", maxMessageBytes), strings.Repeat("x", maxMessageBytes)},
		"too long":      {strings.Repeat("x", 1<<20), strings.Repeat("x", maxMessageBytes) + "..."},
		"cut in a rune": {strings.Repeat("x", maxMessageBytes-1) + "éé", strings.Repeat("x", maxMessageBytes-1) + "..."},
		"all escaped":   {strings.Repeat("é", 1<<20), strings.Repeat("é", maxMessageBytes/2) + "..."},
		"empty":         {"", ""},
	} {
		err := through(t, failingWith(fault.New(fault.Exhausted, "%s", c.said))).DeleteVolume(t.Context(), volume.NewID())
		if !fault.Is(err, fault.Exhausted) || err.Error() != c.want {
			t.Errorf("%s: got %s, %.50q", name, fault.KindOf(err), err)
		}
	}
}
