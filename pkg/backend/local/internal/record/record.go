package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/holkas-io/holkas/pkg/backend/local/internal/durable"
	"github.com/holkas-io/holkas/pkg/fault"
)

// maximumBytes is the most that a record's file can hold.
const maximumBytes = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is what a file can hold.
type Record interface {
	Pool | Volume | Snapshot | Frozen
}

type envelope struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	CRC32C  string          `json:"crc32c"`
	Record  json.RawMessage `json:"record"`
}

// formatOf returns the format and the version that a record is written in.
func formatOf(r any) (format string, version int) { //nolint:unparam // each format has a version of its own, all the first yet
	switch r.(type) {
	case *Pool:
		return "holkas local pool", 1
	case *Volume:
		return "holkas local volume", 1
	case *Snapshot:
		return "holkas local snapshot", 1
	case *Frozen:
		return "holkas local freeze", 1
	}
	panic(fmt.Sprintf("record: no format for %T", r)) // Record's types are all above
}

// Encode renders a record as its file's content.
func Encode[R Record](r R) []byte {
	body, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("record: %T: %v", r, err)) // strings, numbers and times only: cannot fail
	}
	format, version := formatOf(&r)
	file, err := json.MarshalIndent(envelope{format, version, checksum(body), body}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("record: %T: %v", r, err))
	}
	return append(file, '\n')
}

// Decode reads a file's content.
func Decode[R Record](content []byte) (r R, err error) {
	format, version := formatOf(&r)
	var e envelope
	if err := unmarshal(content, &e); err != nil {
		return r, fault.New(fault.Corrupt, "%d bytes that are no record: %v: want a %s", len(content), err, format)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, e.Record); err != nil {
		return r, fault.New(fault.Corrupt, "no record in it: %v: want a %s", err, format)
	}
	switch {
	case e.Format != format:
		return r, fault.New(fault.Corrupt, "format %q: want %q", e.Format, format)
	case e.Version > version:
		return r, fault.New(fault.Unsupported, "%s, version %d: this release reads up to %d: want a newer one", format, e.Version, version)
	case e.Version < 1:
		return r, fault.New(fault.Corrupt, "%s, version %d: want 1 or more", format, e.Version)
	case e.CRC32C != checksum(body.Bytes()):
		return r, fault.New(fault.Corrupt, "crc32c of the record is %s: want %q", checksum(body.Bytes()), e.CRC32C)
	}
	if err := unmarshal(body.Bytes(), &r); err != nil {
		return r, fault.New(fault.Corrupt, "%s: %v", format, err)
	}
	return r, nil
}

// unmarshal is strict: unknown fields and what follows the value are errors.
func unmarshal(content []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows it")
	}
	return nil
}

func checksum(body []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli))
}

// Write puts a record at path, durably.
func Write[R Record](path string, r R) error { return durable.WriteFile(path, Encode(r)) }

// Read reads the record at path. NotFound if there is no such file; Corrupt or
// Unsupported, naming the file, if it holds no such record; other errors are the
// operating system's own.
func Read[R Record](path string) (r R, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fault.As(fault.NotFound, err)
	}
	if err != nil {
		return r, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maximumBytes+1))
	if err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if len(content) > maximumBytes {
		return r, fault.New(fault.Corrupt, "%s: more than %d bytes: no record is so large", path, maximumBytes)
	}
	r, err = Decode[R](content)
	return r, fault.Wrap(err, "", path)
}
