package epoch

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
)

// Purpose is what an epoch is claimed for.
type Purpose uint8

// The purposes. Their numbers are stored.
const (
	Writing    Purpose = 1
	Collecting Purpose = 2
	Ending     Purpose = 3 // a demotion or deletion, which stays last
)

// Promise is what a flush in an epoch stands on.
type Promise uint8

// The promises. Their numbers are stored.
const (
	NoPromise      Promise = 0 // nothing is acknowledged
	JournalPromise Promise = 1
	ObjectPromise  Promise = 2
)

const (
	maxOwner   = 63
	claimBody  = 56 + 1 + maxOwner
	markerBody = 120 + 1 + maxOwner
	// MaxMarkerBytes bounds a marker's object.
	MaxMarkerBytes = markerBody + wire.Overhead
)

var (
	claimFormat  = wire.Format{Magic: "hlkclam\n", Version: 1, MaxBytes: claimBody}
	markerFormat = wire.Format{Magic: "hlkclos\n", Version: 1, MaxBytes: markerBody}
)

// Claim is the record of an epoch.
type Claim struct {
	frame.Reign
	Purpose Purpose
	Promise Promise
	Owner   string // at most 63 bytes: a node's id
	Time    time.Time
}

// String names the epoch and its owner, for errors.
func (c Claim) String() string { return fmt.Sprintf("epoch %d of %q", c.Epoch, c.Owner) }

func (c Claim) encode() []byte {
	b := append(make([]byte, 0, claimBody), c.Log[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Epoch))
	b = append(b, c.Nonce[:]...)
	b = append(b, byte(c.Purpose), byte(c.Promise), 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Time.UnixNano()))
	return claimFormat.Append(nil, wire.AppendString(b, c.Owner))
}

// decodeClaim reads the claim of an epoch.
func decodeClaim(b []byte, log vlog.LogID, n vlog.Epoch) (c Claim, err error) {
	key := vlog.Keys{Log: log}.Epoch(n)
	box, err := whole(claimFormat, b, key)
	if err != nil {
		return c, err
	}
	d := wire.NewDecoder(box, key)
	d.Fixed(c.Log[:])
	c.Epoch = vlog.Epoch(d.U64())
	d.Fixed(c.Nonce[:])
	c.Purpose, c.Promise = Purpose(d.U8()), Promise(d.U8())
	d.Zeros(6)
	c.Time = time.Unix(0, int64(d.U64())).UTC()
	c.Owner = d.String("owner", maxOwner)
	switch {
	case c.Log != log || c.Epoch != n:
		d.Fail("got epoch %d of %s, want %d of %s", c.Epoch, c.Log, n, log)
	case c.Purpose < Writing || c.Purpose > Ending || c.Promise > ObjectPromise:
		d.Fail("purpose %d, promise %d: want 1 to 3, 0 to 2", c.Purpose, c.Promise)
	}
	return c, d.End()
}

// Marker is a close marker.
type Marker struct {
	Closed   frame.Reign
	Sequence vlog.Sequence // its slot
	By       frame.Reign
	Owner    string // of the closer
	Clean    bool
	Chain    vlog.Chain // behind the last segment; zero if it was put ahead
	Time     time.Time
}

// Position returns the slot.
func (m Marker) Position() vlog.Position {
	return vlog.Position{Epoch: m.Closed.Epoch, Sequence: m.Sequence}
}

func (m Marker) encode() []byte {
	b := append(make([]byte, 0, markerBody), m.Closed.Log[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Closed.Epoch))
	b = append(b, m.Closed.Nonce[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Sequence))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.By.Epoch))
	b = append(b, m.By.Nonce[:]...)
	clean := byte(0)
	if m.Clean {
		clean = 1
	}
	b = append(b, clean, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, m.Chain[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Time.UnixNano()))
	return markerFormat.Append(nil, wire.AppendString(b, m.Owner))
}

// decodeMarker reads the marker in the slot of a reign.
func decodeMarker(b []byte, r frame.Reign, s vlog.Sequence) (m Marker, err error) {
	key := vlog.Keys{Log: r.Log}.Segment(vlog.Position{Epoch: r.Epoch, Sequence: s})
	box, err := whole(markerFormat, b, key)
	if err != nil {
		return m, err
	}
	d := wire.NewDecoder(box, key)
	d.Fixed(m.Closed.Log[:])
	m.Closed.Epoch = vlog.Epoch(d.U64())
	d.Fixed(m.Closed.Nonce[:])
	m.Sequence = vlog.Sequence(d.U64())
	m.By.Log, m.By.Epoch = m.Closed.Log, vlog.Epoch(d.U64())
	d.Fixed(m.By.Nonce[:])
	clean := d.U8()
	d.Zeros(7)
	d.Fixed(m.Chain[:])
	m.Time = time.Unix(0, int64(d.U64())).UTC()
	m.Owner = d.String("owner", maxOwner)
	m.Clean = clean == 1
	switch {
	case m.Closed != r || m.Sequence != s:
		d.Fail("got a marker of %s of %s, nonce %s: want %d of epoch %d of %s, nonce %s", m.Position(), m.Closed.Log, m.Closed.Nonce, s, r.Epoch, r.Log, r.Nonce)
	case clean > 1 || m.Clean != (m.By == r) || m.By.Epoch < r.Epoch || m.By.Epoch > vlog.MaxEpoch:
		d.Fail("clean %d, closed by epoch %d: want 1 by epoch %d itself or 0 by a later one", clean, m.By.Epoch, r.Epoch)
	}
	return m, d.End()
}

func whole(f wire.Format, b []byte, key string) (wire.Box, error) {
	box, err := f.Open(b, key)
	if err == nil && box.Size != len(b) {
		err = fault.New(fault.Corrupt, "%s at %d: got %d more bytes, want the end", key, box.Size, len(b)-box.Size)
	}
	return box, err
}

// Valid reports whether a checkpoint at a position and a marker of the same log
// can both be, see the package's comment: if not, it says which is void.
func Valid(checkpoint vlog.Position, marker vlog.Position) error {
	switch {
	case marker.Epoch == checkpoint.Epoch && checkpoint.Sequence >= marker.Sequence:
		return fault.New(fault.Corrupt, "checkpoint %s is void: its epoch's marker is at %s: want it before", checkpoint, marker)
	case marker.Compare(checkpoint) < 0:
		return nil // of an epoch before: an end that is no longer looked for, or void
	}
	return nil
}
