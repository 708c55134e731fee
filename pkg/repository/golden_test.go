package repository

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

const (
	goldenVolume   = "v-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	goldenOther    = "v-baaaaaaaaaaaaaaaaaaaaaaaaa"
	goldenSnapshot = "s-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	goldenGroup    = "g-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	goldenID       = "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"
)

var (
	goldenTime        = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	goldenClass       = volume.Class{Backend: "local", Provisioning: volume.Thin, Pool: "fast", PoolType: volume.XFSPool, MaxSnapshotPause: 500 * time.Millisecond}
	goldenObjectClass = volume.Class{
		Backend: "object", Repository: goldenID, CacheBytes: 1 << 30, Durability: volume.ObjectDurability, OnNodeLoss: volume.Wait,
		UploadDelay: 5 * time.Second, Compression: volume.Zstd, Encryption: volume.AES256GCM,
	}
	goldenObject = volume.Class{
		Backend: "object", Repository: goldenID, CacheBytes: volume.CacheFull, Durability: volume.JournalDurability, OnNodeLoss: volume.Rollback,
		UploadDelay: 250 * time.Millisecond, Compression: volume.NoCompression, Encryption: volume.AES256GCM,
	}
	goldenRequest = Request{
		Range:       volume.Range{RequiredBytes: 1 << 30, LimitBytes: 2 << 30},
		Parameters:  map[string]string{"pool": "fast"},
		Mutable:     map[string]string{"maxSnapshotPause": "500ms"},
		Source:      Source{Snapshot: goldenID + "/" + goldenSnapshot, Volume: goldenOther},
		Consistency: "filesystem",
		Members:     map[volume.ID]volume.SnapshotID{goldenVolume: goldenSnapshot},
	}
)

// golden is one object of each kind, every field set. A file of testdata holds
// its bytes as format version 1 has them, for ever.
var golden = []struct {
	kind    kind
	subject string
	removed bool
	file    string
	value   any
}{
	{kind: rootKind, subject: rootKey, file: "repository", value: &root{goldenID}},
	{kind: "volume-name", subject: "pvc-1", file: "volume-name", value: &Name{Name: "pvc-1", ID: goldenVolume, Node: "node.1", Request: goldenRequest, Ended: true, Created: goldenTime}},
	{kind: "snapshot-name", subject: "snap-1", file: "snapshot-name", value: &Name{Name: "snap-1", ID: goldenSnapshot, Node: "node.1", Request: goldenRequest, Ended: true, Created: goldenTime}},
	{kind: "group-name", subject: "group-1", file: "group-name", value: &Name{Name: "group-1", ID: goldenGroup, Node: "node.1", Request: goldenRequest, Ended: true, Created: goldenTime}},
	{kind: "group-name", subject: "group-1", file: "group-intent", value: &Name{
		Name: "group-1", ID: goldenGroup, Node: "node.1", Request: goldenRequest, Ended: true, Created: goldenTime,
		Backend: "local", MemberNodes: map[volume.ID]volume.NodeID{goldenVolume: "node.1", goldenOther: "node.2"},
	}},
	{kind: "volume", subject: goldenVolume, file: "volume", value: &Volume{
		ID: goldenVolume, State: Ready, Name: "pvc-1", Node: "node.1", SizeBytes: 1 << 30, Class: goldenClass, Request: goldenRequest,
		Publications: []Publication{{Node: "node.1", ReadOnly: true, AccessMode: "SINGLE_NODE_READER_ONLY"}}, Created: goldenTime, Changed: goldenTime,
	}},
	{kind: "volume", subject: goldenVolume, file: "volume-publishing", value: &Volume{
		ID: goldenVolume, State: Ready, Name: "pvc-1", Node: "node.1", SizeBytes: 1 << 30, Class: goldenClass,
		Publications: []Publication{{Node: "node.1", AccessMode: "SINGLE_NODE_WRITER", Pending: true}}, Created: goldenTime, Changed: goldenTime,
	}},
	{kind: "group-name", subject: "group-1", file: "group-intent-mixed", value: &Name{
		Name: "group-1", ID: goldenGroup, Created: goldenTime, MemberNodes: map[volume.ID]volume.NodeID{goldenVolume: "node.1", goldenOther: "node.2"},
		MemberBackends: map[volume.ID]string{goldenVolume: "local", goldenOther: "object"},
	}},
	{kind: "volume", subject: goldenVolume, file: "volume-object", value: &Volume{
		ID: goldenVolume, State: Ready, Name: "pvc-1", Node: "node.1", SizeBytes: 1 << 30, Class: goldenObject,
		Request: Request{Parameters: map[string]string{"backend": "object"}, Source: Source{Snapshot: goldenID + "/" + goldenSnapshot}, ReadOnly: true},
		Publications: []Publication{
			{Node: "node.1", ReadOnly: true, AccessMode: MultiNodeReaderOnly}, {Node: "node.2", ReadOnly: true, AccessMode: MultiNodeReaderOnly},
		}, Created: goldenTime, Changed: goldenTime,
	}},
	{kind: "volume", subject: goldenVolume, file: "volume-ended", value: &Volume{ID: goldenVolume, State: Ended, Changed: goldenTime}},
	{kind: "volume", subject: goldenVolume, file: "volume-removed", removed: true},
	{kind: "snapshot", subject: goldenSnapshot, file: "snapshot", value: &Snapshot{
		ID: goldenSnapshot, State: Deleting, Name: "snap-1", Volume: goldenVolume, Node: "node.1", Group: goldenGroup, SizeBytes: 1 << 30, Class: goldenClass,
		Consistency: volume.CrashConsistent, Filesystem: backend.Filesystem{Type: volume.XFS, State: backend.Formatted}, Cut: goldenTime, Changed: goldenTime,
	}},
	{kind: "group", subject: goldenGroup, file: "group", value: &Group{ID: goldenGroup, State: Ready, Name: "group-1", Members: []volume.SnapshotID{goldenSnapshot}, Cut: goldenTime, Changed: goldenTime}},
	{kind: "node", subject: "node.1", file: "node", value: &Node{
		ID: "node.1", Address: "10.0.0.1:7001", Machine: "0a1b2c3d-0000-4000-8000-000000000000", Backends: []string{"local"},
		Pools: []Pool{{Name: "fast", Type: volume.BtrfsPool}}, MaxVolumes: 120, Retired: true, Changed: goldenTime,
	}},
	{kind: "object-volume", subject: goldenVolume, file: "object-volume", value: &ObjectVolume{
		ID: goldenVolume, State: Ready, Log: "l-aaaaaaaaaaaaaaaaaaaaaaaaaa", SizeBytes: 2 << 30, Class: goldenObjectClass,
		Request: ObjectRequest{SizeBytes: 1 << 30, Class: goldenObjectClass, Source: backend.Source{Snapshot: goldenSnapshot, Volume: goldenOther}},
		Origin:  ObjectOrigin{Snapshot: goldenSnapshot, Nonce: "000102030405060708090a0b0c0d0e0f", Internal: true},
		Files:   backend.Filesystem{Type: volume.XFS, State: backend.Formatted},
		Keys:    keyring.Ring{Fingerprint: "0f0e0d0c0b0a09080706050403020100", Keys: []keyring.Wrapped{{ID: "00112233445566778899aabbccddeeff", Key: []byte("wrapped")}}},
		Created: goldenTime, Changed: goldenTime,
	}},
	{kind: "object-volume", subject: goldenVolume, file: "object-volume-ended", value: &ObjectVolume{ID: goldenVolume, State: Ended, Changed: goldenTime}},
	{kind: "object-snapshot", subject: goldenSnapshot, file: "object-snapshot", value: &ObjectSnapshot{
		ID: goldenSnapshot, State: Ready, Why: "why", Volume: goldenVolume, Asked: volume.FilesystemConsistent, Consistency: volume.CrashConsistent,
		Files: backend.Filesystem{Type: volume.XFS, State: backend.Formatted}, Log: "l-aaaaaaaaaaaaaaaaaaaaaaaaaa",
		Epoch: 3, Sequence: 7, Chain: "00", Checkpoint: "01", Blocks: 262144, KeyIDs: []string{"00112233445566778899aabbccddeeff"},
		Cut: goldenTime, Pause: 3 * time.Millisecond, Changed: goldenTime,
	}},
	{kind: "object-snapshot", subject: goldenSnapshot, file: "object-snapshot-ended", value: &ObjectSnapshot{ID: goldenSnapshot, State: Ended, Changed: goldenTime}},
	{kind: tombstoneKind, subject: "node.1/" + goldenVolume, file: "tombstone", value: &Tombstone{Node: "node.1", Volume: goldenVolume, Created: goldenTime}},
}

func goldenFile(name string) string { return filepath.Join("testdata", "format-1", name) }

// TestGolden encodes each object and compares it with its file, then decodes the
// file and compares it with the object. Run with HOLKAS_WRITE_GOLDEN=1 to write
// the file of a new kind; one that exists is never written again.
func TestGolden(t *testing.T) {
	for _, row := range golden {
		t.Run(row.file, func(t *testing.T) {
			e := envelope{
				Subject: row.subject, Revision: 2, Nonce: "000102030405060708090a0b0c0d0e0f", Written: goldenTime, Removed: row.removed,
				Previous: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			}
			if row.value != nil {
				value, err := encodeValue(row.value)
				must(t, err)
				e.Value = value
			}
			object, err := encode(row.kind, e)
			must(t, err)
			if _, err := os.Stat(goldenFile(row.file)); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
				must(t, os.WriteFile(goldenFile(row.file), object, 0o644))
			}
			want, err := os.ReadFile(goldenFile(row.file))
			must(t, err)
			if !bytes.Equal(object, want) {
				t.Errorf("encoded\n%s\nwant\n%s", object, want)
			}
			decoded, err := decode(row.kind, want)
			must(t, err)
			if !reflect.DeepEqual(decoded, e) {
				t.Errorf("decoded %+v, want %+v", decoded, e)
			}
			if row.value == nil {
				return
			}
			got := reflect.New(reflect.TypeOf(row.value).Elem()).Interface()
			must(t, json.Unmarshal(decoded.Value, got))
			if !reflect.DeepEqual(got, row.value) {
				t.Errorf("value %+v, want %+v", got, row.value)
			}
		})
	}
}

// TestGoldenReadsAsARecord sees that unknown fields of the same version are
// passed over, and an older predecessor's golden bytes are accepted as they are.
func TestGoldenReadsAsARecord(t *testing.T) {
	var store objstore.Store = memory.New()
	r := openOn(t, store)
	body := []byte(`{"subject":"node.1","revision":1,"nonce":"00","written":"2026-01-02T03:04:05Z","later":{"x":1},"value":{"id":"node.1","address":"unix:///e","later":[1]}}`)
	must(t, store.Create(t.Context(), "nodes/node.1/0000000001", append(header("node", body), body...)))
	n, err := r.Nodes.Latest(t.Context(), "node.1")
	if err != nil || n.Value.Address != "unix:///e" {
		t.Errorf("latest: %+v, %v; want what the reader knows", n, err)
	}
}
