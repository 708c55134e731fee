package claim

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
)

const (
	maxNumber      = 9_999_999_999
	releasedSuffix = ".released"
	verdictSuffix  = ".verdict"
)

// claims returns the prefix of all claims on a subject.
func (s Subject) claims() string { return "claims/" + string(s) + "/" }

// trash returns the prefix of all deletions of a subject.
func (s Subject) trash() string { return "trash/" + string(s) + "/" }

// condemned returns the key of what is irrevocable.
func (s Subject) condemned() string {
	if s.log() {
		return "logs/" + string(s) + "/condemned"
	}
	return "snapshots/" + string(s) + "/condemned"
}

// key returns where a record belongs.
func (r record) key() string {
	switch r.what {
	case claimed:
		return r.subject.claims() + r.dependent + "." + r.nonce.String()
	case released:
		return r.subject.claims() + r.dependent + "." + r.nonce.String() + releasedSuffix
	case condemned:
		return r.subject.condemned()
	case trashed:
		return fmt.Sprintf("%s%010d", r.subject.trash(), r.number)
	}
	return fmt.Sprintf("%s%010d%s", r.subject.trash(), r.number, verdictSuffix)
}

// parseNumber reads the number of a deletion out of a key of trash. Corrupt if it
// has none.
func (s Subject) parseNumber(key string) (uint64, error) {
	digits := strings.TrimSuffix(strings.TrimPrefix(key, s.trash()), verdictSuffix)
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || len(digits) != 10 || n == 0 {
		return 0, fault.New(fault.Corrupt, "object %q: want %sNNNNNNNNNN from 1", key, s.trash())
	}
	return n, nil
}
