package cache

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Bounds of the file in bytes.
const (
	MinSize = 1 << 20
	MaxSize = 64 << 40
)

// Options say which cache is meant.
type Options struct {
	// Path is where the file is, absolute. It is made if there is none.
	Path string
	// SizeBytes is how large the file may be, from MinSize to MaxSize. A file of
	// another size is resized when it is opened.
	SizeBytes int64
	// PendingBytes bounds the memory of what was fetched and is not yet in the
	// file; 0 is 16 MiB. What does not fit is not kept.
	PendingBytes int64
	// SaveEvery is how often at most the index in the file is brought up to date;
	// 0 is 10 seconds. What is put in later than that is lost by a death.
	SaveEvery time.Duration
	// Storage is where files are; nil is the operating system's.
	Storage disk.Storage
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Validate reports all faults at once. Invalid.
func (o Options) Validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fault.New(fault.Invalid, format, args...)) }
	if !filepath.IsAbs(o.Path) || filepath.Clean(o.Path) != o.Path {
		add("cache: path %q: want an absolute, clean one", o.Path)
	}
	if err := checkSize(o.SizeBytes); err != nil {
		faults = append(faults, err)
	}
	if o.PendingBytes < 0 {
		add("cache: pending bytes %d: want 0 or more", o.PendingBytes)
	}
	if o.SaveEvery < 0 {
		add("cache: save every %s: want 0 or more", o.SaveEvery)
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

func checkSize(bytes int64) error {
	if bytes < MinSize || bytes > MaxSize {
		return fault.New(fault.Invalid, "cache: size %d bytes: want %d to %d", bytes, int64(MinSize), int64(MaxSize))
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.PendingBytes == 0 {
		o.PendingBytes = 16 << 20
	}
	if o.SaveEvery == 0 {
		o.SaveEvery = 10 * time.Second
	}
	if o.Storage == nil {
		o.Storage = disk.Files{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
