package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

const (
	testVolume = volume.ID("v-aaaaaaaaaaaaaaaaaaaaaaaaaa")
	other      = volume.ID("v-bbbbbbbbbbbbbbbbbbbbbbbbba")
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func secret(fill byte) []byte { return bytes.Repeat([]byte{fill}, keyBytes) }

func user(t testing.TB, fill byte) *UserKey {
	t.Helper()
	k, err := ParseUserKey("encryptionKey", base64.StdEncoding.EncodeToString(secret(fill)))
	must(t, err)
	return k
}

func keys(t testing.TB, fills ...byte) Keys {
	t.Helper()
	var all [][]byte
	for _, f := range fills {
		all = append(all, secret(f))
	}
	k, err := restore(all)
	must(t, err)
	return k
}

func TestParseUserKey(t *testing.T) {
	raw := append(secret(0xfb), 0xff)[1:] // in base64 it has what differs between the spellings
	want, err := ParseUserKey("k", hex.EncodeToString(raw))
	must(t, err)
	for _, text := range []string{
		strings.ToUpper(hex.EncodeToString(raw)),
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		" " + base64.StdEncoding.EncodeToString(raw) + "\n",
	} {
		if got, err := ParseUserKey("k", text); err != nil || got.Fingerprint() != want.Fingerprint() {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "hunter2", string(raw), hex.EncodeToString(raw[1:]), base64.StdEncoding.EncodeToString(raw[1:]), base64.StdEncoding.EncodeToString(append(raw, 1)), strings.Repeat("x", 64)} {
		_, err := ParseUserKey("encryptionKey", text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "encryptionKey") || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v, want invalid, by the secret's name and without its value", text, err)
		}
	}
}

// TestGolden: the wrapping of format 1, by its bytes.
func TestGolden(t *testing.T) {
	k := keys(t, 1, 2)
	var nonces []byte
	for i := range 2 * nonceBytes {
		nonces = append(nonces, byte(i))
	}
	ring := k.wrap(user(t, 9), testVolume, nonces)
	got, err := json.MarshalIndent(ring, "", " ")
	must(t, err)
	file := filepath.Join("testdata", "format-1.json")
	if _, err := os.Stat(file); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
		must(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("wrapped\n%s\nwant\n%s", got, want)
	}
	var stored Ring
	must(t, json.Unmarshal(want, &stored))
	opened, err := stored.Open(user(t, 9), testVolume)
	must(t, err)
	if opened.Own.ID() != k.Own.ID() || len(opened.Sources) != 1 || opened.Sources[0].ID() != k.Sources[0].ID() {
		t.Errorf("opened %v, want %v", opened, k)
	}
}

// TestWrongKeys: what is not exactly right opens nothing.
func TestWrongKeys(t *testing.T) {
	k, err := New(keys(t, 1))
	must(t, err)
	mine := user(t, 9)
	ring := k.Wrap(mine, testVolume)
	if _, err := ring.Open(mine, testVolume); err != nil {
		t.Error(err)
	}
	_, err = ring.Open(user(t, 8), testVolume)
	if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), string(mine.Fingerprint())) || !strings.Contains(err.Error(), string(user(t, 8).Fingerprint())) {
		t.Errorf("another user key: %v, want precondition with both fingerprints", err)
	}
	forged := ring
	forged.Fingerprint = user(t, 8).Fingerprint()
	for what, row := range map[string]struct {
		ring Ring
		user *UserKey
		of   volume.ID
	}{
		"another volume":      {ring, mine, other},
		"a forged print":      {forged, user(t, 8), testVolume},
		"no keys":             {Ring{Fingerprint: mine.fingerprint}, mine, testVolume},
		"keys exchanged":      {Ring{mine.fingerprint, []Wrapped{{ring.Keys[0].ID, ring.Keys[1].Key}}}, mine, testVolume},
		"a key that is short": {Ring{mine.fingerprint, []Wrapped{{ring.Keys[0].ID, ring.Keys[0].Key[1:]}}}, mine, testVolume},
		"an id that is none":  {Ring{mine.fingerprint, []Wrapped{{"x" + ring.Keys[0].ID[1:], ring.Keys[0].Key}}}, mine, testVolume},
	} {
		if _, err := row.ring.Open(row.user, row.of); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", what, err)
		}
	}
	for i := range ring.Keys[0].Key {
		flipped := Ring{ring.Fingerprint, []Wrapped{{ring.Keys[0].ID, bytes.Clone(ring.Keys[0].Key)}}}
		flipped.Keys[0].Key[i] ^= 1
		if _, err := flipped.Open(mine, testVolume); !fault.Is(err, fault.Corrupt) {
			t.Errorf("byte %d flipped: %v, want corrupt", i, err)
		}
	}
}

// TestRotate: the same data keys open with the new user key, and only with it.
func TestRotate(t *testing.T) {
	k, err := New(keys(t, 1, 2))
	must(t, err)
	old, young := user(t, 9), user(t, 8)
	opened, err := k.Wrap(old, testVolume).Open(old, testVolume)
	must(t, err)
	rotated := opened.Wrap(young, testVolume)
	again, err := rotated.Open(young, testVolume)
	must(t, err)
	if again.Own.ID() != k.Own.ID() || len(again.Sources) != 2 || again.Sources[1].ID() != k.Sources[1].ID() {
		t.Errorf("after a rotation: %v with %v, want %v with %v", again, again.Sources, k, k.Sources)
	}
	if _, err := rotated.Open(old, testVolume); !fault.Is(err, fault.Precondition) {
		t.Errorf("the old key after a rotation: %v, want precondition", err)
	}
	if imported, err := Import(again.Export()); err != nil || imported.Own.ID() != k.Own.ID() || len(imported.Sources) != 2 {
		t.Errorf("exported and imported: %v, %v", imported, err)
	}
}

// TestNothingShows: neither key shows in what is printed or stored.
func TestNothingShows(t *testing.T) {
	u, k := user(t, 'u'), keys(t, 'k')
	ring, err := json.Marshal(k.Wrap(u, testVolume))
	must(t, err)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", u, u, u, u), fmt.Sprintf("%v %+v %#v %s", k, k, k, k), string(ring)} {
		for _, b := range [][]byte{secret('u'), secret('k')} {
			if strings.Contains(text, string(b[:8])) || strings.Contains(text, hex.EncodeToString(b[:8])) || strings.Contains(text, "75 75 75") || strings.Contains(text, "117 117") || strings.Contains(text, "107 107") {
				t.Errorf("%q shows a key", text)
			}
		}
	}
}
