package agent

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/fault"
)

// codeOf is the table of this API. Codes are for those that look at it from
// outside; the client goes by the Fault.
var codeOf = map[fault.Kind]codes.Code{
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

// maxMessageBytes is what of an error's message travels: it goes in headers,
// twice, and headers are bounded.
const maxMessageBytes = 4 << 10

// toStatus gives an error its status, with its kind as a detail.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	kind := fault.KindOf(err)
	code, ok := codeOf[kind]
	if !ok {
		code = codes.Unknown
	}
	s := status.New(code, clipMessage(err.Error()))
	if detailed, err := s.WithDetails(&agentpb.Fault{Kind: uint32(kind)}); err == nil {
		s = detailed
	}
	return s.Err()
}

func clipMessage(s string) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= maxMessageBytes {
		return s
	}
	cut := maxMessageBytes
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// fromStatus makes of what a call ended with the error that the other side gave,
// or one that says that the outcome is unknown. peer is who was called.
func fromStatus(ctx context.Context, peer string, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return fault.New(fault.Transient, "%s: the connection ended: %w", peer, err)
	}
	for _, d := range s.Details() {
		if f, ok := d.(*agentpb.Fault); ok {
			return fault.As(kindOf(f), errors.New(s.Message()))
		}
	}
	if ended := ctx.Err(); ended != nil {
		return fault.As(fault.KindOf(ended), &endedError{peer + ": " + s.Message(), ended})
	}
	switch s.Code() {
	case codes.DeadlineExceeded: // told by the other side, a moment early
		return fault.As(fault.Deadline, &endedError{peer + ": " + s.Message(), context.DeadlineExceeded})
	case codes.Unimplemented:
		return fault.New(fault.Unsupported, "%s: %s: upgrade the engine", peer, s.Message())
	}
	return fault.New(fault.Transient, "%s: %s", peer, s.Message())
}

// kindOf reads a kind. One that is newer than this program leaves the outcome
// open.
func kindOf(f *agentpb.Fault) fault.Kind {
	kind := fault.Kind(min(f.GetKind(), 255))
	if _, ok := codeOf[kind]; !ok {
		return fault.Transient
	}
	return kind
}

// endedError is what is left of a call whose context ended.
type endedError struct {
	message string
	ended   error
}

func (e *endedError) Error() string { return e.message }
func (e *endedError) Unwrap() error { return e.ended }
