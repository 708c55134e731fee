package claim

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const snapshot = Subject("s-aaaaaaaaaaaaaaaaaaaaaaaaaa")

var (
	testTime = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	testLog  = Subject(vlog.LogID{1, 2, 3}.String())
	records  = map[string]record{
		"claim":     {what: claimed, nonce: vlog.Nonce{5, 6}, from: vlog.Position{Epoch: 4, Sequence: 9}, time: testTime, ends: testTime.Add(time.Hour), subject: testLog, dependent: "l-bbbbbbbbbbbbbbbbbbbbbbbbba", holder: "site b"},
		"release":   {what: released, nonce: vlog.Nonce{5, 6}, time: testTime, subject: snapshot, dependent: "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"},
		"condemned": {what: condemned, number: 2, time: testTime, subject: snapshot},
		"trashed":   {what: trashed, number: 1, time: testTime, subject: testLog, holder: strings.Repeat("h", maxName)},
		"verdict":   {what: decided, verdict: Restore, number: 1, time: testTime, subject: testLog},
	}
)

// TestFormat: golden bytes, and every byte flipped and every truncation seen.
func TestFormat(t *testing.T) {
	for name, r := range records {
		object := r.encode()
		file := filepath.Join("testdata", "format-1", name)
		if _, err := os.Stat(file); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
			must(t, os.WriteFile(file, object, 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if !bytes.Equal(object, want) {
			t.Errorf("%s: encoded otherwise than format version 1", name)
		}
		if got, err := decode(want, r.key()); err != nil || got != r {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, r)
		}
		for i := range want {
			b := bytes.Clone(want)
			b[i] ^= 0x20
			if _, err := decode(b, r.key()); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s: byte %d flipped: %v, want corrupt", name, i, err)
			}
			if _, err := decode(want[:i], r.key()); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s: truncated to %d: %v, want corrupt", name, i, err)
			}
		}
		if _, err := decode(append(bytes.Clone(want), 0), r.key()); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: extended: %v, want corrupt", name, err)
		}
		for other, o := range records {
			if _, err := decode(want, o.key()); other != name && !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s in the place of %s: %v, want corrupt", name, other, err)
			}
		}
	}
}

// TestInvalidRecords: what must not be stored is refused, and what holds it is
// Corrupt.
func TestInvalidRecords(t *testing.T) {
	for name, change := range map[string]func(r *record){
		"subject":              func(r *record) { r.subject = "v-aaaaaaaaaaaaaaaaaaaaaaaaaa" },
		"kind":                 func(r *record) { r.what = 6 },
		"verdict in a claim":   func(r *record) { r.verdict = Delete },
		"no verdict":           func(r *record) { *r = records["verdict"]; r.verdict = Undecided },
		"verdict 3":            func(r *record) { *r = records["verdict"]; r.verdict = 3 },
		"no nonce":             func(r *record) { r.nonce = vlog.Nonce{} },
		"no dependent":         func(r *record) { r.dependent = "" },
		"dependent with a dot": func(r *record) { r.dependent = "a.released" },
		"number in a claim":    func(r *record) { r.number = 1 },
		"deletion 0":           func(r *record) { *r = records["trashed"]; r.number = 0 },
		"deletion too high":    func(r *record) { *r = records["trashed"]; r.number = maxNumber + 1 },
		"release with an end":  func(r *record) { *r = records["release"]; r.ends = testTime },
		"snapshot's position":  func(r *record) { r.subject = snapshot },
		"bad position":         func(r *record) { r.from.Epoch = 0 },
		"long holder":          func(r *record) { r.holder = strings.Repeat("h", maxName+1) },
	} {
		r := records["claim"]
		change(&r)
		if err := r.validate(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
		if _, err := decode(r.encode(), r.key()); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: decoded: %v, want corrupt", name, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range records {
		f.Add(r.encode(), r.key())
	}
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		r, err := decode(b, key)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
				t.Errorf("%v: want corrupt or unsupported", err)
			}
			return
		}
		if !bytes.Equal(r.encode(), b) && b[12] == 0 && b[13] == 0 {
			t.Errorf("%+v is encoded otherwise", r)
		}
	})
}
