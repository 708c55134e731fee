package volume_test

import (
	"encoding/base32"
	"path"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestIDsAreOwnKind(t *testing.T) {
	v, s, g, r := volume.NewID(), volume.NewSnapshotID(), volume.NewGroupID(), volume.NewRepositoryID()
	if _, err := volume.ParseID(string(v)); err != nil {
		t.Error(err)
	}
	if h, err := volume.ParseHandle(string(r) + "/" + string(s)); err != nil || h != (volume.Handle{Repository: r, Snapshot: s}) {
		t.Error(h, err)
	}
	if h, err := volume.ParseGroupHandle(string(r) + "/" + string(g)); err != nil || h.String() != string(r)+"/"+string(g) {
		t.Error(h, err)
	}
	for _, other := range []string{string(s), string(g), string(r), string(v) + "a", string(v)[:27], strings.ToUpper(string(v)), string(v) + "\n", "../" + string(v), ""} {
		if _, err := volume.ParseID(other); !fault.Is(err, fault.NotFound) {
			t.Errorf("ParseID(%q): got %v, want not found", other, err)
		}
	}
}

// TestIDsAreCanonical: of the 26th letter only 3 bits are used; a spelling that
// sets the others decodes to the same bytes and must not be a second id.
func TestIDsAreCanonical(t *testing.T) {
	id := string(volume.NewID())
	body, last := id[2:27], id[27]
	encoding := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	want, err := encoding.DecodeString(id[2:])
	if err != nil || len(want) != 16 {
		t.Fatal(err, len(want))
	}
	for _, c := range "abcdefghijklmnopqrstuvwxyz234567" {
		_, err := volume.ParseID("v-" + body + string(c))
		got, _ := encoding.DecodeString(body + string(c))
		if canonical := encoding.EncodeToString(got) == body+string(c); (err == nil) != canonical {
			t.Errorf("last letter %c (was %c): accepted %v, canonical %v", c, last, err == nil, canonical)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "v-", "..", "v-aaaaaaaaaaaaaaaaaaaaaaaaaa", "r-aaaaaaaaaaaaaaaaaaaaaaaaaa/s-aaaaaaaaaaaaaaaaaaaaaaaaaa", "a/b/c", "\x00", strings.Repeat("v", 5000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := volume.ParseID(s); err == nil && (path.Clean("/x/"+string(id)) != "/x/"+s || objstore.ValidateKey("volumes/"+s) != nil) {
			t.Errorf("id %q is no safe path or key", s)
		}
		if h, err := volume.ParseHandle(s); err == nil && h.String() != s {
			t.Errorf("handle %q renders as %q", s, h)
		}
		if h, err := volume.ParseGroupHandle(s); err == nil && h.String() != s {
			t.Errorf("group handle %q renders as %q", s, h)
		}
		if id, err := volume.ParseNodeID(s); err == nil && (len(id) > 63 || objstore.ValidateKey("nodes/"+s+"/0000000001") != nil) {
			t.Errorf("node id %q is no safe key", s)
		}
		if name, err := volume.ParsePoolName(s); err == nil && path.Clean("/x/"+name) != "/x/"+s {
			t.Errorf("pool name %q is no safe path", s)
		}
	})
}
