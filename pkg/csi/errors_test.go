package csi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/fault"
)

// TestEveryKindHasItsCode: the rows stand here once more, on purpose: a code is
// an interface to the sidecars, whoever edits the table.
func TestEveryKindHasItsCode(t *testing.T) {
	want := map[fault.Kind]codes.Code{
		fault.Internal: codes.Internal, fault.Invalid: codes.InvalidArgument, fault.NotFound: codes.NotFound,
		fault.Exists: codes.AlreadyExists, fault.InUse: codes.FailedPrecondition, fault.Busy: codes.Aborted,
		fault.Exhausted: codes.ResourceExhausted, fault.OutOfRange: codes.OutOfRange, fault.Transient: codes.Unavailable,
		fault.Fenced: codes.FailedPrecondition, fault.Corrupt: codes.DataLoss, fault.Unsupported: codes.Unimplemented,
		fault.Precondition: codes.FailedPrecondition, fault.Canceled: codes.Canceled, fault.Deadline: codes.DeadlineExceeded,
	}
	for k := fault.Kind(0); !strings.HasPrefix(k.String(), "kind "); k++ {
		code, ok := want[k]
		if !ok {
			t.Errorf("%s has no code", k)
			continue
		}
		err := statusOf(fault.Wrap(fmt.Errorf("deeper: %w", fault.New(k, "size: 7: want 8")), "create volume", "x"))
		if status.Code(err) != code || !strings.Contains(err.Error(), "create volume x: deeper: size: 7: want 8") {
			t.Errorf("%s: got %v, want %s", k, err, code)
		}
	}
}

func TestOtherErrorsHaveTheirCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"none":                     {nil, codes.OK},
		"a canceled context":       {fmt.Errorf("read: %w", context.Canceled), codes.Canceled},
		"a context's deadline":     {context.DeadlineExceeded, codes.DeadlineExceeded},
		"gRPC's own":               {status.Error(codes.Unimplemented, "unknown method"), codes.Unimplemented},
		"a fault around a status":  {fault.As(fault.Transient, status.Error(codes.Internal, "of an engine")), codes.Unavailable},
		"a kind of a newer engine": {fault.New(200, "later"), codes.Unavailable},
		"an untyped one":           {errors.New("oops"), codes.Internal},
	} {
		if got := status.Code(statusOf(c.err)); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
