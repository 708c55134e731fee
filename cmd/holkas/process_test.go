package main

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestRunParts(t *testing.T) {
	waits := part{"waits", func(ctx context.Context) error { <-ctx.Done(); return nil }}
	for _, c := range []struct {
		name  string
		stop  bool // ctx ends
		parts []part
		want  string
	}{
		{"a signal", true, []part{waits, {"waits too", waits.run}}, ""},
		{"one fails", false, []part{waits, {"bad", func(context.Context) error { return errors.New("broken") }}}, "bad: broken"},
		{"one ends by itself", false, []part{waits, {"short", func(context.Context) error { return nil }}}, "short: ended by itself"},
		{"one fails at the end", true, []part{waits, {"bad", func(ctx context.Context) error { <-ctx.Done(); return errors.New("broken") }}}, "bad: broken"},
		{"one hangs", true, []part{waits, {"hangs", func(context.Context) error { select {} }}}, "did not end within 50ms: [hangs]"},
		{"one fails and one hangs", false, []part{{"hangs", func(context.Context) error { select {} }}, {"bad", func(context.Context) error { return errors.New("broken") }}},
			"bad: broken\ndid not end within 50ms: [hangs]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.stop {
				cancel()
			}
			err := runParts(ctx, 50*time.Millisecond, c.parts...)
			if got := text(err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
