package volume_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

type params = map[string]string

func TestParseClass(t *testing.T) {
	for _, c := range []struct {
		name            string
		fixed, mutable  params
		want            volume.Class
		wantInvalidWith []string
	}{
		{"defaults", nil, nil, volume.Class{Backend: "local", Provisioning: volume.Thick, MaxSnapshotPause: time.Second}, nil},
		{"all", params{"backend": "local", "provisioning": "thin", "pool": "fast", "poolType": "btrfs", "maxSnapshotPause": "250ms"}, nil,
			volume.Class{Backend: "local", Provisioning: volume.Thin, Pool: "fast", PoolType: volume.BtrfsPool, MaxSnapshotPause: 250 * time.Millisecond}, nil},
		{"mutable over fixed", params{"provisioning": "thin"}, params{"provisioning": "thick", "maxSnapshotPause": "3s"},
			volume.Class{Backend: "local", Provisioning: volume.Thick, MaxSnapshotPause: 3 * time.Second}, nil},
		{"the sidecars' keys", params{"csi.storage.k8s.io/pvc/name": "x", "storage.kubernetes.io/y": "z"}, nil,
			volume.Class{Backend: "local", Provisioning: volume.Thick, MaxSnapshotPause: time.Second}, nil},
		{"all faults at once", params{"backend": "nfs", "provisioning": "fat", "pool": "../x", "poolType": "ext4", "maxSnapshotPause": "-1s", "colour": "red", "encryption": "on"}, nil,
			volume.Class{}, []string{"backend", "provisioning", "pool ", "poolType", "maxSnapshotPause", "colour", "encryption"}},
		{"a fixed key among the mutable", nil, params{"pool": "fast"}, volume.Class{}, []string{"pool", "maxSnapshotPause, provisioning"}},
		{"an unknown mutable key", nil, params{"x": "y"}, volume.Class{}, []string{"x"}},
		{"a sidecar's key among the mutable", nil, params{"csi.storage.k8s.io/x": "y"}, volume.Class{}, []string{"csi.storage.k8s.io/x"}},
	} {
		got, err := volume.ParseClass(c.fixed, c.mutable)
		if len(c.wantInvalidWith) == 0 {
			if err != nil || got != c.want {
				t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
			}
			continue
		}
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", c.name, err)
			continue
		}
		for _, word := range c.wantInvalidWith {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q lacks %q", c.name, err, word)
			}
		}
	}
}

func TestApplyKeepsThick(t *testing.T) {
	thick, thin := volume.Thick, volume.Thin
	class := volume.Class{Provisioning: volume.Thick}
	if _, err := class.Apply(volume.Mutable{Provisioning: &thin}); !fault.Is(err, fault.Invalid) {
		t.Errorf("thick to thin: got %v, want invalid", err)
	}
	class.Provisioning = volume.Thin
	if got, err := class.Apply(volume.Mutable{Provisioning: &thick}); err != nil || got.Provisioning != volume.Thick {
		t.Errorf("thin to thick: got %+v, %v", got, err)
	}
}

func TestRangeSize(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		required, limit, minimum int64
		want                     int64
		kind                     fault.Kind
	}{
		{0, 0, 0, volume.DefaultBytes, 0},
		{1, 0, 0, mib, 0},
		{mib + 1, 0, 0, mib + 4096, 0},
		{mib + 1, mib + 4095, 0, 0, fault.OutOfRange},
		{mib + 1, mib + 4096, 0, mib + 4096, 0},
		{0, 5*mib + 1, 0, 5 * mib, 0},
		{0, mib - 1, 0, 0, fault.OutOfRange},
		{10 * mib, 0, 300 * mib, 300 * mib, 0},
		{10 * mib, 20 * mib, 300 * mib, 0, fault.OutOfRange},
		{-1, 0, 0, 0, fault.Invalid},
		{0, -1, 0, 0, fault.Invalid},
		{2, 1, 0, 0, fault.Invalid},
		{1<<63 - 1, 0, 0, 0, fault.OutOfRange},
		{volume.MaximumBytes, 0, 0, volume.MaximumBytes, 0},
	} {
		got, err := volume.Range{RequiredBytes: c.required, LimitBytes: c.limit}.Size(c.minimum)
		if c.want != 0 && (err != nil || got != c.want) || c.want == 0 && !fault.Is(err, c.kind) {
			t.Errorf("%+v: got %d, %v", c, got, err)
		}
	}
}

func TestSecretsHide(t *testing.T) {
	s := volume.Secrets{"key": "hunter2"}
	body, err := json.Marshal(struct{ S volume.Secrets }{s})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, s, s, s), string(body)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%q shows the secret", text)
		}
	}
}

// FuzzParseClass gives the readers of parameters any: they refuse them as
// Invalid, or what they return is whole.
func FuzzParseClass(f *testing.F) {
	f.Add("backend", "local", "provisioning", "thin")
	f.Add("maxSnapshotPause", "1s", "maxSnapshotPause", "-1")
	f.Add("consistency", "crash", "provisioning", "thick")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		class, err := volume.ParseClass(params{k1: v1}, params{k2: v2})
		invalidOr(t, err, class.Backend != "" && class.Provisioning != "" && class.MaxSnapshotPause > 0, class)
		mutable, err := volume.ParseMutable(params{k1: v1, k2: v2})
		invalidOr(t, err, mutable.MaxSnapshotPause == nil || *mutable.MaxSnapshotPause > 0, mutable)
		consistency, err := volume.ParseConsistency(params{k1: v1, k2: v2})
		invalidOr(t, err, consistency == volume.CrashConsistent || consistency == volume.FilesystemConsistent, consistency)
		fs, err := volume.ParseFilesystem(v1)
		invalidOr(t, err, fs == volume.Ext4 || fs == volume.XFS || fs == volume.Btrfs, fs)
	})
}

func invalidOr(t *testing.T, err error, whole bool, got any) {
	t.Helper()
	if err != nil && !fault.Is(err, fault.Invalid) || err == nil && !whole {
		t.Errorf("got %+v, %v", got, err)
	}
}
