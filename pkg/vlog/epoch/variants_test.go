package epoch

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestModel: the protocol holds within the bounds, and each rule, left out, is
// caught: so none is idle, and the checker sees.
func TestModel(t *testing.T) {
	limit, most := 60_000, 2_000_000
	if os.Getenv("HOLKAS_SOAK") != "" {
		limit, most = 4_000_000, 8_000_000
	}
	for _, row := range []struct {
		name   string
		rules  rules
		broken bool
		closed bool // begin where epoch 1 is closed: found only deep down otherwise
	}{
		{name: "object", rules: rules{}},
		{name: "object, from a close on", rules: rules{}, closed: true},
		{name: "object, collector", rules: rules{collector: true}},
		{name: "journal", rules: rules{journal: true}},
		{name: "journal, collector", rules: rules{journal: true, collector: true}},

		{name: "closes the former epoch only", rules: rules{formerOnly: true}, broken: true},
		{name: "reads the checkpoint before the claim", rules: rules{checkpointBefore: true}, broken: true},
		{name: "deletes without looking", rules: rules{deleteUnlooked: true}, broken: true},
		{name: "deletes markers", rules: rules{deleteMarkers: true}, broken: true},
		{name: "takes the marker ahead for the end", rules: rules{barrierEnds: true}, broken: true},
		{name: "acknowledges what is stored", rules: rules{ackStored: true}, broken: true},
		{name: "takes any object for its own", rules: rules{existsIsMine: true}, broken: true},
		{name: "counts behind a marker", rules: rules{countBehindMarker: true}, broken: true},
		{name: "recycles what is stored", rules: rules{journal: true, recycleStored: true}, broken: true},
		{name: "opens undecided", rules: rules{journal: true, undecided: true}, broken: true},
		{name: "decides after closing", rules: rules{journal: true, decideAfter: true}, broken: true},
		{name: "collector settles", rules: rules{journal: true, collector: true, collectorSettles: true}, broken: true},
		{name: "collector forgets what was settled", rules: rules{journal: true, collector: true, forgetSettled: true}, broken: true},
		{name: "recycles what it replays", rules: rules{journal: true, recycleReplayed: true}, broken: true},
		{name: "serves without looking", rules: rules{serveUnlooked: true}, broken: true, closed: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			bound := limit
			if row.broken {
				bound = most
			}
			begin := mBegin()
			if row.closed {
				begin = mClosed()
			}
			trace, states, exhausted := explore(begin, row.rules, bound)
			switch {
			case row.broken && trace == nil:
				t.Errorf("not caught in %d states (all %v)", states, exhausted)
			case !row.broken && trace != nil:
				slices.Reverse(trace)
				t.Errorf("after %d states:\n%s", states, strings.Join(trace, "\n"))
			default:
				t.Logf("%d states (all %v), %d steps", states, exhausted, len(trace))
			}
		})
	}
}
