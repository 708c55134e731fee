package claim

import (
	"encoding/binary"
	"regexp"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/volume"
)

// what a record is. Its number is stored.
type what uint8

const (
	claimed   what = 1
	released  what = 2
	condemned what = 3
	trashed   what = 4
	decided   what = 5
)

// Verdict is what became of a deletion. Its number is stored.
type Verdict uint8

// The verdicts.
const (
	Undecided Verdict = 0
	Delete    Verdict = 1
	Restore   Verdict = 2
)

const (
	subjectBytes = 28
	maxName      = 63
	recordBody   = 92 + 2*(1+maxName)
)

var (
	recordFormat = wire.Format{Magic: "hlkhold\n", Version: 1, MaxBytes: recordBody}
	// no '.', which separates the parts of a key
	validDependent = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
)

// record is any object of this package.
type record struct {
	what      what
	verdict   Verdict
	nonce     vlog.Nonce
	number    uint64
	from      vlog.Position
	time      time.Time
	ends      time.Time // zero: never
	subject   Subject
	dependent string
	holder    string
}

func nanoseconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func instant(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

func (r record) encode() []byte {
	b := append(make([]byte, 0, recordBody), byte(r.what), byte(r.verdict), 0, 0, 0, 0, 0, 0)
	b = append(b, r.nonce[:]...)
	for _, v := range []uint64{r.number, uint64(r.from.Epoch), uint64(r.from.Sequence), nanoseconds(r.time), nanoseconds(r.ends)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, r.subject...)
	return recordFormat.Append(nil, wire.AppendString(wire.AppendString(b, r.dependent), r.holder))
}

// decode decodes the record at a key, which must be the one that it belongs at.
func decode(object []byte, key string) (r record, err error) {
	box, err := recordFormat.Open(object, key)
	switch {
	case err != nil:
		return r, err
	case box.Size != len(object):
		return r, fault.New(fault.Corrupt, "%s at %d: got %d more bytes, want the end", key, box.Size, len(object)-box.Size)
	}
	d := wire.NewDecoder(box, key)
	r.what, r.verdict = what(d.U8()), Verdict(d.U8())
	d.Zeros(6)
	d.Fixed(r.nonce[:])
	r.number = d.U64()
	r.from = vlog.Position{Epoch: vlog.Epoch(d.U64()), Sequence: vlog.Sequence(d.U64())}
	r.time, r.ends = instant(d.U64()), instant(d.U64())
	r.subject = Subject(d.Bytes(subjectBytes))
	r.dependent, r.holder = d.String("dependent", maxName), d.String("holder", maxName)
	if d.Err() == nil {
		if err := r.validate(); err != nil {
			d.Fail("%w", err)
		} else if r.key() != key {
			d.Fail("got what belongs at %s", r.key())
		}
	}
	return r, d.End()
}

func (r record) validate() error {
	if err := r.subject.Validate(); err != nil {
		return err
	}
	isClaim := r.what == claimed || r.what == released
	switch {
	case r.what < claimed || r.what > decided || (r.what == decided) != (r.verdict != Undecided) || r.verdict > Restore:
		return fault.New(fault.Invalid, "record %d with verdict %d: want 1 to 5, and a verdict of 1 or 2 in the last only", r.what, r.verdict)
	case isClaim && (r.nonce == (vlog.Nonce{}) || !validDependent.MatchString(r.dependent) || r.number != 0):
		return fault.New(fault.Invalid, "claim of %.80q with nonce %s: want letters, digits, '-' and '_', at most %d, and a nonce", r.dependent, r.nonce, maxName)
	case !isClaim && (r.nonce != (vlog.Nonce{}) || r.dependent != "" || r.number < 1 || r.number > maxNumber):
		return fault.New(fault.Invalid, "deletion %d with dependent %.80q: want 1 to %d and none", r.number, r.dependent, uint64(maxNumber))
	case r.what != claimed && (r.from != (vlog.Position{}) || !r.ends.IsZero()):
		return fault.New(fault.Invalid, "record %d from %s, ending %s: want that of a claim only", r.what, r.from, r.ends)
	case r.from != (vlog.Position{}) && (!r.from.Valid() || !r.subject.log()):
		return fault.New(fault.Invalid, "claim on %s from %s: want a position of a log, or none", r.subject, r.from)
	case len(r.holder) > maxName:
		return fault.New(fault.Invalid, "holder %.80q: want at most %d bytes", r.holder, maxName)
	}
	return nil
}

// Subject is what is claimed: the id of a snapshot or of a log.
type Subject string

// Validate reports what is neither, as Invalid.
func (s Subject) Validate() error {
	_, notLog := vlog.ParseLogID(string(s))
	_, notSnapshot := volume.ParseSnapshotID(string(s))
	if notLog != nil && notSnapshot != nil {
		return fault.New(fault.Invalid, "subject %.80q: want the id of a snapshot or a log", string(s))
	}
	return nil
}

func (s Subject) log() bool { return len(s) > 0 && s[0] == 'l' }
