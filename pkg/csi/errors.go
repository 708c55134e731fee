package csi

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/fault"
)

// kindCodes says which code each kind of error becomes. The sidecars take
// Canceled, DeadlineExceeded, Unavailable and Aborted as "may still be under
// way", and the snapshotter ResourceExhausted too; after any other code they
// forget what they asked for.
var kindCodes = map[fault.Kind]codes.Code{
	fault.Internal:     codes.Internal,
	fault.Invalid:      codes.InvalidArgument,
	fault.NotFound:     codes.NotFound,
	fault.Exists:       codes.AlreadyExists,
	fault.InUse:        codes.FailedPrecondition,
	fault.Busy:         codes.Aborted,
	fault.Exhausted:    codes.ResourceExhausted,
	fault.OutOfRange:   codes.OutOfRange,
	fault.Transient:    codes.Unavailable,
	fault.Fenced:       codes.FailedPrecondition,
	fault.Corrupt:      codes.DataLoss,
	fault.Unsupported:  codes.Unimplemented,
	fault.Precondition: codes.FailedPrecondition,
	fault.Canceled:     codes.Canceled,
	fault.Deadline:     codes.DeadlineExceeded,
}

// statusOf turns a handler's error into a status. An error that gRPC itself made
// keeps its code. A kind that is not in the table comes from a newer engine:
// what it means is unknown, so the work may still be under way.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	var typed *fault.Error
	if s, ok := status.FromError(err); ok && !errors.As(err, &typed) {
		return s.Err()
	}
	code, ok := kindCodes[fault.KindOf(err)]
	if !ok {
		code = codes.Unavailable
	}
	return status.Error(code, err.Error())
}
