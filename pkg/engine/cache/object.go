package cache

import (
	"fmt"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Object names an immutable object of a log. Two Objects that are equal have the
// same bytes, on every node and for ever: see the package's comment.
type Object struct {
	Log      vlog.LogID
	Nonce    vlog.Nonce // of the claim of the object's epoch
	Kind     vlog.Kind  // segment or table
	Sequence vlog.Sequence
	// SizeBytes is the length of the object, as the checkpoint's list has it.
	SizeBytes int64
}

// MaxObject is the most bytes of an object that is cached.
const MaxObject = 1 << 32

// String renders the object for errors.
func (o Object) String() string {
	return fmt.Sprintf("%s of %s, epoch of %s, number %d", o.Kind, o.Log, o.Nonce, o.Sequence)
}

func (o Object) check() error {
	if o.Kind != vlog.SegmentKind && o.Kind != vlog.TableKind || o.SizeBytes < 1 || o.SizeBytes > MaxObject {
		return fault.New(fault.Invalid, "cache: %s, %d bytes: want a segment or a table of 1 to %d bytes", o, o.SizeBytes, int64(MaxObject))
	}
	return nil
}

// Range is bytes of an object: from At to before End.
type Range struct{ At, End int64 }

// contains reports whether all of s is in r.
func (r Range) contains(s Range) bool { return r.At <= s.At && s.End <= r.End }

// Lines returns r widened to whole lines of the object, which is what to fetch
// if more of the neighbourhood is worth it.
func (o Object) Lines(r Range) Range {
	return Range{r.At / LineBytes * LineBytes, min((r.End+LineBytes-1)/LineBytes*LineBytes, o.SizeBytes)}
}

// blocks is cached blocks of an object: from lo to before hi.
type blocks struct{ lo, hi int64 }

func (b blocks) empty() bool { return b.lo >= b.hi }

// with returns the smallest run that has all of both.
func (b blocks) with(c blocks) blocks {
	if b.empty() {
		return c
	}
	return blocks{min(b.lo, c.lo), max(b.hi, c.hi)}
}

// covering returns the blocks that have all of a range.
func (r Range) covering() blocks { return blocks{r.At / payload, (r.End + payload - 1) / payload} }

// within returns the blocks that are whole in a range of the object.
func (o Object) within(r Range) blocks {
	b := blocks{(r.At + payload - 1) / payload, r.End / payload}
	if r.End == o.SizeBytes {
		b.hi = (r.End + payload - 1) / payload
	}
	return b
}

// bytes returns the range that blocks have.
func (o Object) bytes(b blocks) Range {
	return Range{b.lo * payload, min(b.hi*payload, o.SizeBytes)}
}

// first returns the blocks of b that are in the same line as its first one.
func (b blocks) first() blocks {
	return blocks{b.lo, min(b.hi, (b.lo/lineBlocks+1)*lineBlocks)}
}

// line returns the line of the first block, and which blocks of it are meant; b
// is within one line.
func (b blocks) line() (line int64, mask uint16) {
	line = b.lo / lineBlocks
	return line, uint16(1<<(b.hi-line*lineBlocks) - 1<<(b.lo-line*lineBlocks))
}

// fingerprint is a line's print, never 0. It is stored: the low 16 bits tell
// the log, the others everything. Two lines with one print disturb each other,
// and no more: what is read is known by the identity in each block.
type fingerprint uint64

// printer forms the prints of an object's lines.
type printer struct {
	seed uint64
	tag  uint16
}

func (o Object) printer() printer {
	log := scramble(scramble(le.Uint64(o.Log[:])) ^ le.Uint64(o.Log[8:]))
	h := scramble(log ^ le.Uint64(o.Nonce[:]))
	h = scramble(h ^ le.Uint64(o.Nonce[8:]))
	h = scramble(h ^ uint64(o.Kind)<<56 ^ uint64(o.Sequence))
	return printer{h, tagOf(o.Log)}
}

func tagOf(log vlog.LogID) uint16 {
	return uint16(scramble(scramble(le.Uint64(log[:]))^le.Uint64(log[8:])) >> 48)
}

func (p printer) of(line int64) fingerprint {
	h := scramble(p.seed ^ uint64(line))
	if h>>16 == 0 {
		h = 1 << 16
	}
	return fingerprint(h&^0xffff | uint64(p.tag))
}

func (p fingerprint) tag() uint16 { return uint16(p) }

// scramble is the finalizer of splitmix64.
func scramble(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
