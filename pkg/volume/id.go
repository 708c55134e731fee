package volume

import (
	"crypto/rand"
	"encoding/base32"
	"regexp"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
)

// ID names a volume: "v-" and 128 random bits in 26 lower-case base-32 letters.
type ID string

// SnapshotID names a snapshot inside its repository: "s-" and 26 letters.
type SnapshotID string

// GroupID names a group snapshot inside its repository: "g-" and 26 letters.
type GroupID string

// RepositoryID names a repository: "r-" and 26 letters.
type RepositoryID string

// NodeID names a node: at most 63 letters, digits, '-', '_' and '.', beginning
// and ending with a letter or digit, since it is also a topology value.
type NodeID string

var (
	encoding  = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	randomID  = regexp.MustCompile(`^[vsgr]-[a-z2-7]{25}[aeimquy4]$`)
	validNode = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
)

func newID(kind string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return kind + "-" + encoding.EncodeToString(b[:])
}

func parseID(s, kind, what string) error {
	if !randomID.MatchString(s) || !strings.HasPrefix(s, kind+"-") {
		return fault.New(fault.NotFound, "%s %q: no such id: want %q and 26 letters a-z2-7", what, clip(s), kind+"-")
	}
	return nil
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// NewID returns a random volume id.
func NewID() ID { return ID(newID("v")) }

// NewSnapshotID returns a random snapshot id.
func NewSnapshotID() SnapshotID { return SnapshotID(newID("s")) }

// NewGroupID returns a random group snapshot id.
func NewGroupID() GroupID { return GroupID(newID("g")) }

// NewRepositoryID returns a random repository id.
func NewRepositoryID() RepositoryID { return RepositoryID(newID("r")) }

// ParseID reads a volume id. One that Holkas cannot have made is NotFound: it
// names a volume that does not exist.
func ParseID(s string) (ID, error) { return ID(s), parseID(s, "v", "volume") }

// ParseSnapshotID reads a snapshot id; NotFound as ParseID.
func ParseSnapshotID(s string) (SnapshotID, error) {
	return SnapshotID(s), parseID(s, "s", "snapshot")
}

// ParseGroupID reads a group snapshot id; NotFound as ParseID.
func ParseGroupID(s string) (GroupID, error) { return GroupID(s), parseID(s, "g", "group snapshot") }

// ParseRepositoryID reads a repository id; NotFound as ParseID.
func ParseRepositoryID(s string) (RepositoryID, error) {
	return RepositoryID(s), parseID(s, "r", "repository")
}

// ParseNodeID reads a node id. Invalid if it is not one.
func ParseNodeID(s string) (NodeID, error) {
	if !validNode.MatchString(s) {
		return "", fault.New(fault.Invalid, "node id %q: want 1 to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends", clip(s))
	}
	return NodeID(s), nil
}

// Handle is a snapshot's or a group snapshot's name outside its site:
// "<repository id>/<snapshot id>". It is what CSI calls snapshot_id.
type Handle struct {
	Repository RepositoryID
	Snapshot   SnapshotID
}

// String renders the handle as CSI carries it, 57 bytes.
func (h Handle) String() string { return string(h.Repository) + "/" + string(h.Snapshot) }

// ParseHandle reads a snapshot handle; NotFound as ParseID.
func ParseHandle(s string) (Handle, error) {
	repository, snapshot, _ := strings.Cut(s, "/")
	r, err := ParseRepositoryID(repository)
	if err != nil {
		return Handle{}, fault.New(fault.NotFound, "snapshot %q: no such id: want <repository id>/<snapshot id>", clip(s))
	}
	id, err := ParseSnapshotID(snapshot)
	return Handle{r, id}, err
}

// GroupHandle is a group snapshot's name outside its site:
// "<repository id>/<group id>".
type GroupHandle struct {
	Repository RepositoryID
	Group      GroupID
}

// String renders the handle as CSI carries it, 57 bytes.
func (h GroupHandle) String() string { return string(h.Repository) + "/" + string(h.Group) }

// ParseGroupHandle reads a group snapshot handle; NotFound as ParseID.
func ParseGroupHandle(s string) (GroupHandle, error) {
	repository, group, _ := strings.Cut(s, "/")
	r, err := ParseRepositoryID(repository)
	if err != nil {
		return GroupHandle{}, fault.New(fault.NotFound, "group snapshot %q: no such id: want <repository id>/<group id>", clip(s))
	}
	id, err := ParseGroupID(group)
	return GroupHandle{r, id}, err
}
