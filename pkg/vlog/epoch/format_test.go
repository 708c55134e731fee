package epoch

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	testTime  = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	testReign = frame.Reign{Log: vlog.LogID{1, 2, 3}, Epoch: 4, Nonce: vlog.Nonce{5, 6}}
	testClaim = Claim{Reign: testReign, Purpose: Writing, Promise: JournalPromise, Owner: "node.1", Time: testTime}
	testNext  = frame.Reign{Log: vlog.LogID{1, 2, 3}, Epoch: 5, Nonce: vlog.Nonce{7}}
	markers   = map[string]Marker{
		"marker":       {Closed: testReign, Sequence: 9, By: testNext, Owner: "node.2", Chain: vlog.Chain{8}, Time: testTime},
		"marker-clean": {Closed: testReign, Sequence: 9, By: testReign, Owner: "node.1", Clean: true, Chain: vlog.Chain{8}, Time: testTime},
		"marker-ahead": {Closed: testReign, Sequence: 9, By: testNext, Owner: strings.Repeat("n", maxOwner), Time: testTime},
	}
)

// golden returns a golden file, and writes it first if it is missing and
// HOLKAS_WRITE_GOLDEN is set.
func golden(t *testing.T, name string, object []byte) []byte {
	file := filepath.Join("testdata", "format-1", name)
	if _, err := os.Stat(file); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
		must(t, os.WriteFile(file, object, 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(object, want) {
		t.Errorf("%s: encoded otherwise than format version 1", name)
	}
	return want
}

// TestFormats: golden bytes, and every byte flipped and every truncation seen.
func TestFormats(t *testing.T) {
	claim := golden(t, "claim", testClaim.encode())
	if c, err := decodeClaim(claim, testReign.Log, 4); err != nil || c != testClaim {
		t.Errorf("%+v, %v", c, err)
	}
	damage(t, claim, func(b []byte) error { _, err := decodeClaim(b, testReign.Log, 4); return err })
	for name, want := range markers {
		b := golden(t, name, want.encode())
		if m, err := decodeMarker(b, testReign, 9); err != nil || m != want {
			t.Errorf("%+v, %v", m, err)
		}
		if len(b) > MaxMarkerBytes || MaxMarkerBytes >= segment.MinBytes {
			t.Errorf("a marker of %d bytes, bound %d, smallest segment %d", len(b), MaxMarkerBytes, segment.MinBytes)
		}
		damage(t, b, func(b []byte) error { _, err := decodeMarker(b, testReign, 9); return err })
	}
}

func damage(t *testing.T, whole []byte, decode func([]byte) error) {
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x20
		if err := decode(b); !fault.Is(err, fault.Corrupt) {
			t.Errorf("byte %d flipped: %v, want corrupt", i, err)
		}
		if err := decode(whole[:i]); !fault.Is(err, fault.Corrupt) {
			t.Errorf("truncated to %d: %v, want corrupt", i, err)
		}
	}
	if err := decode(append(bytes.Clone(whole), 0)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("extended: %v, want corrupt", err)
	}
}

// TestMisplacedIsCorrupt: whole records that are not what belongs there.
func TestMisplacedIsCorrupt(t *testing.T) {
	for name, err := range map[string]error{
		"claim of another log":   second(decodeClaim(testClaim.encode(), vlog.LogID{2}, 4)),
		"claim of another epoch": second(decodeClaim(testClaim.encode(), testReign.Log, 5)),
		"claim without purpose":  second(decodeClaim(Claim{Reign: testReign}.encode(), testReign.Log, 4)),
		"marker of another slot": second(decodeMarker(markers["marker"].encode(), testReign, 10)),
		"marker of another nonce": second(decodeMarker(markers["marker"].encode(),
			frame.Reign{Log: testReign.Log, Epoch: 4, Nonce: vlog.Nonce{6}}, 9)),
		"clean marker of another": second(decodeMarker(Marker{Closed: testReign, Sequence: 9, By: testNext, Clean: true}.encode(), testReign, 9)),
		"marker of a former one":  second(decodeMarker(Marker{Closed: testReign, Sequence: 9, By: frame.Reign{Epoch: 3}}.encode(), testReign, 9)),
	} {
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestValid(t *testing.T) {
	at := func(e vlog.Epoch, s vlog.Sequence) vlog.Position { return vlog.Position{Epoch: e, Sequence: s} }
	for _, row := range []struct {
		checkpoint, marker vlog.Position
		ok                 bool
	}{
		{at(2, 5), at(2, 6), true},
		{at(2, 5), at(2, 5), false},
		{at(2, 5), at(2, 3), false},
		{at(2, 0), at(2, 1), true},
		{at(2, 5), at(1, 9), true},
		{at(2, 5), at(3, 1), true},
	} {
		if err := Valid(row.checkpoint, row.marker); (err == nil) != row.ok {
			t.Errorf("checkpoint %s, marker %s: %v", row.checkpoint, row.marker, err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(testClaim.encode())
	for _, m := range markers {
		f.Add(m.encode())
	}
	for _, b := range bases {
		f.Add(b.encode(testReign.Log))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := decodeBase(b, testReign.Log); err == nil && !bytes.Equal(x.encode(testReign.Log), b) {
			t.Errorf("base %+v is encoded otherwise", x)
		}
		if c, err := decodeClaim(b, testReign.Log, 4); err == nil && !bytes.Equal(c.encode(), b) {
			t.Errorf("claim %+v is encoded otherwise", c)
		}
		if m, err := decodeMarker(b, testReign, 9); err == nil && !bytes.Equal(m.encode(), b) {
			t.Errorf("marker %+v is encoded otherwise", m)
		}
	})
}
