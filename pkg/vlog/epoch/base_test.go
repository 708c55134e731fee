package epoch

import (
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
)

var bases = map[string]Base{
	"base": {Blocks: 1 << 20, Time: testTime},
	"base-on-another": {
		Blocks: 1 << 20, Time: testTime, From: vlog.LogID{9}, Repository: "r-aaaaaaaaaaaaaaaaaaaaaaaaaa",
		Head: vlog.Head{Position: vlog.Position{Epoch: 3, Sequence: 8}, Chain: vlog.Chain{7}}, Checkpoint: vlog.Digest{6},
	},
}

func TestBase(t *testing.T) {
	for name, want := range bases {
		l := Log{Store: memory.New(), ID: testReign.Log}
		if _, err := l.Base(t.Context()); !fault.Is(err, fault.NotFound) {
			t.Errorf("no log: %v, want not found", err)
		}
		must(t, l.Create(t.Context(), want))
		must(t, l.Create(t.Context(), want))
		if got, err := l.Base(t.Context()); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		other := want
		other.Blocks++
		if err := l.Create(t.Context(), other); !fault.Is(err, fault.Exists) {
			t.Errorf("another base: %v, want exists", err)
		}
		b := golden(t, name, want.encode(testReign.Log))
		damage(t, b, func(b []byte) error { return second(decodeBase(b, testReign.Log)) })
		if err := second(decodeBase(b, vlog.LogID{2})); !fault.Is(err, fault.Corrupt) {
			t.Errorf("of another log: %v, want corrupt", err)
		}
		if s := want.Start(); s.Chain != want.Head.Chain || s.Position != (vlog.Position{}) {
			t.Errorf("start %+v", s)
		}
	}
	for name, b := range map[string]Base{
		"position of no log":  {Head: vlog.Head{Position: vlog.Position{Epoch: 1}}},
		"log without a place": {From: vlog.LogID{1}},
		"too large":           {Blocks: vlog.MaxBlocks + 1},
		"repository unknown":  {From: vlog.LogID{1}, Head: vlog.Head{Position: vlog.Position{Epoch: 1}}, Repository: "x"},
	} {
		if err := (Log{Store: memory.New()}).Create(t.Context(), b); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v, want internal", name, err)
		}
		if err := second(decodeBase(b.encode(vlog.LogID{}), vlog.LogID{})); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", name, err)
		}
	}
}
