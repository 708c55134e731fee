package node

import (
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
)

// TestToolKilled: a program that was killed has found nothing out. Its exit code,
// if one took it for that, has all of e2fsck's bits.
func TestToolKilled(t *testing.T) {
	for name, run := range map[string]func() error{
		"tool":          func() error { _, err := tool(t.Context(), "sh", "-c", "kill -9 $$"); return err },
		"survivingTool": func() error { _, err := survivingTool(t.Context(), "sh", "-c", "kill -9 $$"); return err },
		"mustRun":       func() error { return mustRun(t.Context(), "sh", "-c", "kill -9 $$") },
	} {
		if err := run(); !fault.Is(err, fault.Transient) {
			t.Errorf("%s: got %v (%s), want it to be Transient", name, err, fault.KindOf(err))
		}
	}
	if r, err := tool(t.Context(), "sh", "-c", "exit 8"); err != nil || r.code != 8 {
		t.Errorf("got code %d, %v; want 8", r.code, err)
	}
}
