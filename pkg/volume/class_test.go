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

const home = "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"

// anObject is the class of the object backend of which nothing else is said.
var anObject = volume.Class{
	Backend: "object", Durability: volume.JournalDurability, OnNodeLoss: volume.Wait, UploadDelay: 5 * time.Second,
	Compression: volume.Zstd, Encryption: volume.NoEncryption,
}

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
		{"defaults of object", params{"backend": "object"}, nil, anObject, nil},
		{"all of object", params{
			"backend": "object", "repository": home, "cacheSize": "10Gi", "durability": "object", "onNodeLoss": "wait", "uploadDelay": "250ms",
			"compression": "none", "encryption": "aes-256-gcm",
		}, nil, volume.Class{
			Backend: "object", Repository: home, CacheBytes: 10 << 30, Durability: volume.ObjectDurability, OnNodeLoss: volume.Wait,
			UploadDelay: 250 * time.Millisecond, Compression: volume.NoCompression, Encryption: volume.AES256GCM,
		}, nil},
		{"mutable over fixed of object", params{"backend": "object", "cacheSize": "64Mi", "uploadDelay": "1m"}, params{"cacheSize": "full", "onNodeLoss": "rollback"},
			volume.Class{
				Backend: "object", CacheBytes: volume.CacheFull, Durability: volume.JournalDurability, OnNodeLoss: volume.Rollback,
				UploadDelay: time.Minute, Compression: volume.Zstd, Encryption: volume.NoEncryption,
			}, nil},
		{"all faults of object at once", params{
			"backend": "object", "repository": "other", "cacheSize": "1Mi", "durability": "fast", "onNodeLoss": "hope", "uploadDelay": "11m",
			"compression": "lz4", "encryption": "rot13", "pool": "fast",
		}, nil, volume.Class{}, []string{
			"repository: ", "cacheSize: ", "durability: ", "onNodeLoss: ", "uploadDelay: ", "compression: ", "encryption: ",
			`pool: unknown with backend "object": want one of backend, cacheSize, compression, durability, encryption, onNodeLoss, repository, uploadDelay`,
		}},
		{"a parameter of object with local", params{"cacheSize": "full"}, nil, volume.Class{},
			[]string{`cacheSize: unknown with backend "local": want one of backend, maxSnapshotPause, pool, poolType, provisioning`}},
		{"nothing to roll back", params{"backend": "object", "durability": "object", "onNodeLoss": "rollback"}, nil, volume.Class{}, []string{"onNodeLoss", "durability"}},
		{"encryption cannot change", params{"backend": "object"}, params{"encryption": "none", "repository": home}, volume.Class{},
			[]string{"mutable parameter encryption", "mutable parameter repository", "cacheSize, compression, durability, onNodeLoss, uploadDelay"}},
		{"the backend cannot change", nil, params{"backend": "object"}, volume.Class{}, []string{"mutable parameter backend"}},
		{"an upload delay too short", params{"backend": "object", "uploadDelay": "99ms"}, nil, volume.Class{}, []string{"100ms to 10m"}},
		{"all faults at once", params{"backend": "nfs", "provisioning": "fat", "pool": "../x", "poolType": "ext4", "maxSnapshotPause": "-1s", "colour": "red", "encryption": "on"}, nil,
			volume.Class{}, []string{"backend", "provisioning", "pool: ", "poolType", "maxSnapshotPause", "colour", "encryption"}},
		{"a fixed key among the mutable", nil, params{"pool": "fast"}, volume.Class{}, []string{"pool", "maxSnapshotPause, provisioning"}},
		{"an unknown mutable key", nil, params{"x": "y"}, volume.Class{}, []string{"x"}},
		{"a sidecar's key among the mutable", nil, params{"csi.storage.k8s.io/x": "y"}, volume.Class{}, []string{"csi.storage.k8s.io/x"}},
	} {
		got, err := volume.ParseClass(c.fixed, c.mutable)
		if len(c.wantInvalidWith) == 0 {
			if err != nil || got != c.want {
				t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
			}
			if again, err := volume.ParseClass(got.Parameters(), nil); err != nil || again != got {
				t.Errorf("%s: %v is read as %+v, %v; want %+v", c.name, got.Parameters(), again, err, got)
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

func TestCacheSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"full": volume.CacheFull, "64Mi": 64 << 20, "64Ti": 64 << 40, "67108864": 64 << 20, "10G": 10e9, "70T": 70e12,
		"0": 0, "63Mi": 0, "65Ti": 0, "": 0, "-1": 0, "1.5Gi": 0, "10gi": 0, "10 Gi": 0, "9223372036854775807": 0, "999999999999999999Ti": 0,
	} {
		got, err := volume.ParseClass(params{"backend": "object", "cacheSize": text}, nil)
		if want != 0 && (err != nil || got.CacheBytes != want || !volume.ValidCacheBytes(want)) || want == 0 && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %d, %v; want %d", text, got.CacheBytes, err, want)
		}
	}
}

// TestApply: a change is of the volume's backend, and keeps what is promised.
func TestApply(t *testing.T) {
	change := func(p params) volume.Mutable {
		t.Helper()
		m, err := volume.ParseMutable(p)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	local, err := volume.ParseClass(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		class volume.Class
		m     volume.Mutable
		part  string
	}{
		{local, change(params{"cacheSize": "full", "durability": "object"}), `durability: not of backend "local": want one of maxSnapshotPause, provisioning`},
		{anObject, change(params{"provisioning": "thin"}), `provisioning: not of backend "object"`},
		{anObject, change(params{"durability": "object", "onNodeLoss": "rollback"}), "onNodeLoss"},
	} {
		if got, err := c.class.Apply(c.m); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.part) || got != c.class {
			t.Errorf("%+v: got %+v, %v; want invalid with %q", c.m, got, err, c.part)
		}
	}
	if _, err := volume.ParseMutable(params{"encryption": "none", "uploadDelay": "x"}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "encryption") || !strings.Contains(err.Error(), "uploadDelay") {
		t.Errorf("got %v, want both faults", err)
	}
	all := change(params{"cacheSize": "1Gi", "durability": "object", "onNodeLoss": "wait", "uploadDelay": "1s", "compression": "none"})
	want := anObject
	want.CacheBytes, want.Durability, want.UploadDelay, want.Compression = 1<<30, volume.ObjectDurability, time.Second, volume.NoCompression
	got, err := anObject.Apply(all)
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if back, err := got.Apply(anObject.Mutable()); err != nil || back != anObject || got.Renewed(anObject) != anObject {
		t.Errorf("and back: got %+v, %v; want %+v", back, err, anObject)
	}
	if err := anObject.CheckSize(volume.MaximumObjectBytes); err != nil {
		t.Error(err)
	}
	if err := anObject.CheckSize(volume.MaximumObjectBytes + 1); !fault.Is(err, fault.OutOfRange) {
		t.Errorf("got %v, want out of range", err)
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
	f.Add("backend", "object", "cacheSize", "10Gi")
	f.Add("consistency", "crash", "provisioning", "thick")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		class, err := volume.ParseClass(params{k1: v1}, params{k2: v2})
		whole := class.Backend == "local" && class.Provisioning != "" && class.MaxSnapshotPause > 0
		if class.Shared() {
			whole = class.Durability != "" && class.OnNodeLoss != "" && class.UploadDelay >= volume.MinUploadDelay && volume.ValidCacheBytes(class.CacheBytes) && class.MaxSnapshotPause == 0
		}
		invalidOr(t, err, whole, class)
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
