package garbage

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

var testSwept = swept{Position: vlog.Position{Epoch: 4, Sequence: 9}, nextTable: 12, time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)}

// TestFormat: golden bytes, and every byte flipped and every truncation seen.
func TestFormat(t *testing.T) {
	object := testSwept.encode(testLog)
	file := filepath.Join("testdata", "format-1", "swept")
	if _, err := os.Stat(file); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
		must(t, os.WriteFile(file, object, 0o644))
	}
	golden, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(object, golden) {
		t.Error("encoded otherwise than format version 1")
	}
	if got, err := decodeSwept(golden, testLog, testSwept.Position); err != nil || got != testSwept {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range golden {
		b := bytes.Clone(golden)
		b[i] ^= 0x20
		want(t, "a byte flipped", second(decodeSwept(b, testLog, testSwept.Position)), fault.Corrupt)
		want(t, "truncated", second(decodeSwept(golden[:i], testLog, testSwept.Position)), fault.Corrupt)
	}
	want(t, "extended", second(decodeSwept(append(bytes.Clone(golden), 0), testLog, testSwept.Position)), fault.Corrupt)
	want(t, "of another log", second(decodeSwept(golden, vlog.LogID{9}, testSwept.Position)), fault.Corrupt)
	want(t, "of another position", second(decodeSwept(golden, testLog, vlog.Position{Epoch: 4})), fault.Corrupt)
}

func FuzzSwept(f *testing.F) {
	f.Add(testSwept.encode(testLog))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSwept(b, testLog, testSwept.Position)
		if err == nil && !bytes.Equal(s.encode(testLog), b) && b[12] == 0 && b[13] == 0 {
			t.Errorf("%+v is encoded otherwise", s)
		}
	})
}
