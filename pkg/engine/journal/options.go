package journal

import (
	"errors"
	"path/filepath"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Sizes of the ring in bytes. The smallest that makes sense in use is some
// segments large: 256 MiB.
const (
	DefaultSize = 4 << 30
	MinSize     = 256 << 10
	MaxSize     = 1 << 40
)

// Options say which journal is meant.
type Options struct {
	// Path is where the file is, absolute.
	Path string
	// Volume and Log are what the journal is of. A file of another is refused.
	Volume volume.ID
	Log    vlog.LogID
	// Size is the bytes of the ring that Create makes, a multiple of 4096; 0 is
	// DefaultSize. Open takes the file's own.
	Size int64
	// Incarnation, if not 0, is the file that Open wants: the repository's newest
	// segment names it.
	Incarnation vlog.Incarnation
	// Storage is where files are; nil is the operating system's.
	Storage disk.Storage
}

// Validate reports all faults at once. Invalid.
func (o Options) Validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fault.New(fault.Invalid, format, args...)) }
	if !filepath.IsAbs(o.Path) || filepath.Clean(o.Path) != o.Path {
		add("journal: path %q: want an absolute, clean one", o.Path)
	}
	if _, err := volume.ParseID(string(o.Volume)); err != nil {
		add("journal: volume %.80q: want an id", o.Volume)
	}
	if o.Log == (vlog.LogID{}) {
		add("journal: log: want one")
	}
	if o.Size != 0 && (o.Size < MinSize || o.Size > MaxSize || o.Size%block != 0) {
		add("journal: size %d: want a multiple of %d from %d to %d, or 0 for %d", o.Size, block, int64(MinSize), int64(MaxSize), int64(DefaultSize))
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

func (o Options) withDefaults() Options {
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	if o.Storage == nil {
		o.Storage = disk.Files{}
	}
	return o
}

// ring is the geometry of a ring.
type ring struct {
	size int64 // bytes
}

// offset returns where in the file a position is.
func (r ring) offset(at vlog.LSN) int64 { return superblocks + r.pos(at) }

// pos returns where in the ring a position is.
func (r ring) pos(at vlog.LSN) int64 { return int64(at % vlog.LSN(r.size)) }

// toWrap returns the bytes from a position to the end of the ring.
func (r ring) toWrap(at vlog.LSN) int64 { return r.size - r.pos(at) }

// maxBlocks is the most data of a batch and of a record.
func (r ring) maxBlocks() int64 { return min(MaxBlocks, r.size/block/16) }

// maxRecord is the most bytes of a record.
func (r ring) maxRecord() int64 { return (1 + r.maxBlocks()) * block }

// window is how far the end may be ahead of what is durable.
func (r ring) window() int64 { return min(64<<20, r.size/4/block*block) }

// reserve is kept aside for epoch records and the clean mark: thousands of
// openings without any space given back.
func (r ring) reserve() int64 { return max(4, min(64<<20, r.size/64)/block) * block }

// limit is what appends may use: not the reserve, nor what a pad may need.
func (r ring) limit() int64 { return r.size - r.reserve() - r.maxRecord() }
