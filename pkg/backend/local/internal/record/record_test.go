package record

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var create = flag.Bool("create-golden", false, "write the golden files that are missing")

var moment = time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC)

var (
	goldenPool = Pool{ID: "abcdefghijklmnopqrstuvwxyz", Name: "fast", Type: volume.XFSPool, CreatedAt: moment}
	class      = volume.Class{Backend: "local", Provisioning: volume.Thick, Pool: "fast", PoolType: volume.XFSPool, MaxSnapshotPause: time.Second}

	goldenVolume = Volume{
		ID: "v-abcdefghijklmnopqrstuvwxyz", SizeBytes: 2 << 30, Class: class, CreatedAt: moment,
		Filesystem: backend.Filesystem{Type: volume.Ext4, State: backend.Cloned},
		Request:    VolumeRequest{SizeBytes: 1 << 30, Class: class, Source: backend.Source{Snapshot: "s-abcdefghijklmnopqrstuvwxyz"}},
	}
	goldenSnapshot = Snapshot{
		ID: "s-abcdefghijklmnopqrstuvwxyz", Volume: "v-abcdefghijklmnopqrstuvwxyz", SizeBytes: 1 << 30,
		Consistency: volume.CrashConsistent, Filesystem: backend.Filesystem{Type: volume.Ext4, State: backend.Formatted},
		CreatedAt: moment, Pause: 3 * time.Millisecond, Predicted: 4 * time.Millisecond,
		Request: SnapshotRequest{Consistency: volume.FilesystemConsistent},
	}
	goldenFrozen = Frozen{Volume: "v-abcdefghijklmnopqrstuvwxyz", MountPoint: "/mnt/a b", Since: moment}
)

// TestGolden reads and writes the files of every version. They never change: a
// new version gets files of its own.
func TestGolden(t *testing.T) {
	golden(t, "pool.v1.json", goldenPool)
	golden(t, "volume.v1.json", goldenVolume)
	golden(t, "snapshot.v1.json", goldenSnapshot)
	golden(t, "frozen.v1.json", goldenFrozen)
}

func golden[R interface {
	comparable
	Record
}](t *testing.T, name string, want R) {
	path := filepath.Join("testdata", name)
	if _, err := os.Stat(path); err != nil && *create {
		if err := os.WriteFile(path, Encode(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := Encode(want); !bytes.Equal(got, content) {
		t.Errorf("%s is written as\n%s\nwant\n%s", name, got, content)
	}
	if got, err := Read[R](path); err != nil || got != want {
		t.Errorf("%s is read as %+v, %v\nwant %+v", name, got, err, want)
	}
}

// TestEveryByteCounts damages a file at each byte, and cuts it at each length.
func TestEveryByteCounts(t *testing.T) {
	whole := Encode(goldenVolume)
	for i := range whole {
		if _, err := Decode[Volume](whole[:i]); i < len(whole)-1 && !fault.Is(err, fault.Corrupt) {
			t.Errorf("cut at %d: %v, want Corrupt", i, err)
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		got, err := Decode[Volume](bad)
		if err == nil && got == goldenVolume {
			continue // white space
		}
		if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Errorf("byte %d, %q for %q: %+v, %v, want Corrupt", i, bad[i], whole[i], got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	edit := func(old, replacement string) string {
		whole := string(Encode(goldenFrozen))
		if !strings.Contains(whole, old) {
			t.Fatalf("%s\nholds no %s", whole, old)
		}
		return strings.Replace(whole, old, replacement, 1)
	}
	unknown := `{"volume":"v-a","mountPoint":"/m","since":"2026-03-14T15:09:26Z","mood":"good"}`
	for name, c := range map[string]struct {
		content string
		want    fault.Kind
		says    string
	}{
		"empty":          {"", fault.Corrupt, "0 bytes"},
		"not JSON":       {"garbage", fault.Corrupt, "no record"},
		"zeros":          {strings.Repeat("\x00", 512), fault.Corrupt, "512 bytes"},
		"another format": {edit("local freeze", "local volume"), fault.Corrupt, `want "holkas local freeze"`},
		"newer version":  {edit(`"version": 1`, `"version": 2`), fault.Unsupported, "reads up to 1"},
		"version 0":      {edit(`"version": 1`, `"version": 0`), fault.Corrupt, "want 1 or more"},
		"checksum":       {edit("/mnt/a b", "/mnt/a c"), fault.Corrupt, "crc32c"},
		"two records":    {edit("", "") + edit("", ""), fault.Corrupt, "more follows"},
		"unknown field":  {fmt.Sprintf(`{"format":"holkas local freeze","version":1,"crc32c":%q,"record":%s}`, checksum([]byte(unknown)), unknown), fault.Corrupt, "mood"},
		"unknown around": {edit(`"version": 1`, `"version": 1, "mood": "good"`), fault.Corrupt, "mood"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "record")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Read[Frozen](path)
			if !fault.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v\nwant %s, with %q and the file's name", err, c.want, c.says)
			}
		})
	}
}

func TestHugeFileIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := Read[Pool](path); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want Corrupt, naming the file", err)
	}
	if _, err := Read[Pool](path + "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v, want NotFound", err)
	}
}

// FuzzDecode: whatever is read back is written as something that reads the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range [][]byte{Encode(goldenVolume), Encode(goldenSnapshot), Encode(goldenPool), Encode(goldenFrozen), []byte("{}"), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		fuzz[Pool](t, content)
		fuzz[Volume](t, content)
		fuzz[Snapshot](t, content)
		fuzz[Frozen](t, content)
	})
}

func fuzz[R Record](t *testing.T, content []byte) {
	r, err := Decode[R](content)
	if err != nil {
		if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Fatalf("%v, want Corrupt or Unsupported", err)
		}
		return
	}
	again, err := Decode[R](Encode(r))
	if err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
		t.Fatalf("%+v becomes %+v, %v", r, again, err)
	}
}
