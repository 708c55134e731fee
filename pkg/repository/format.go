package repository

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// The format; doc.go draws it.
const (
	magic          = "holkas"
	formatVersion  = 1
	maxHeaderBytes = 64
	maxObjectBytes = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// kind is the kind of an object, as its header names it.
type kind string

// envelope is what every record's body has around its value.
type envelope struct {
	Subject  string          `json:"subject"`
	Revision int64           `json:"revision"`
	Nonce    string          `json:"nonce"`
	Previous string          `json:"previous,omitempty"`
	Written  time.Time       `json:"written"`
	Removed  bool            `json:"removed,omitempty"`
	Value    json.RawMessage `json:"value,omitempty"`
}

// encode renders an object. Invalid if it grew beyond what a reader takes.
func encode(k kind, e envelope) ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fault.New(fault.Internal, "encode %s %q: %w", k, e.Subject, err)
	}
	object := append(header(k, body), body...)
	if len(object) > maxObjectBytes {
		return nil, fault.New(fault.Invalid, "%s %q: its record has %d bytes: want at most %d", k, e.Subject, len(object), maxObjectBytes)
	}
	return object, nil
}

func header(k kind, body []byte) []byte {
	return fmt.Appendf(nil, "%s %d %s %08x\n", magic, formatVersion, k, crc32.Checksum(body, castagnoli))
}

// decode reads an object of a kind. Corrupt if it is not one; Unsupported if its
// format version is later than this reader's.
func decode(k kind, object []byte) (envelope, error) {
	if len(object) > maxObjectBytes {
		return envelope{}, fault.New(fault.Corrupt, "%d bytes: want at most %d", len(object), maxObjectBytes)
	}
	line, body, found := bytes.Cut(object, []byte("\n"))
	if !found || len(line) > maxHeaderBytes {
		return envelope{}, fault.New(fault.Corrupt, "header %.64q: want a line of at most %d bytes", line, maxHeaderBytes)
	}
	if err := checkVersion(line); err != nil {
		return envelope{}, err
	}
	if want := header(k, body); !bytes.Equal(object[:len(line)+1], want) {
		return envelope{}, fault.New(fault.Corrupt, "header %q: want %q for these %d bytes", line, bytes.TrimSpace(want), len(body))
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return envelope{}, fault.New(fault.Corrupt, "body at %d: %w", len(line)+1, err)
	}
	return e, nil
}

// checkVersion tells a later version, which may differ in all that follows, from
// a header that was never one.
func checkVersion(line []byte) error {
	fields := bytes.SplitN(line, []byte(" "), 3)
	if len(fields) != 3 || string(fields[0]) != magic {
		return fault.New(fault.Corrupt, "header %q: want it to begin with %q and a format version", line, magic)
	}
	version, err := strconv.ParseUint(string(fields[1]), 10, 32)
	switch {
	case err != nil || version == 0:
		return fault.New(fault.Corrupt, "format version %q: want a number from 1 on", fields[1])
	case version > formatVersion:
		return fault.New(fault.Unsupported, "format version %d: this Holkas reads up to %d: use a later one", version, formatVersion)
	}
	return nil
}

func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

func digest(object []byte) string {
	sum := sha256.Sum256(object)
	return hex.EncodeToString(sum[:])
}
