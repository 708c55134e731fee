package repository

import (
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Name is what a CSI name stands for: an id and the request that made it, which
// a retry must match. It is the intent of a creation: it is stored before any
// work and says where that work is done. The creation is complete when revision
// 1 of the id's own record exists, and has failed for good when that revision
// says Ended; racing controllers decide by who creates it.
type Name struct {
	Name    string        `json:"name"`
	ID      string        `json:"id"`
	Node    volume.NodeID `json:"node,omitempty"`  // where the work is done
	Request Request       `json:"request"`         // what a retry must match
	Ended   bool          `json:"ended,omitempty"` // the name may be taken again
	Created time.Time     `json:"created"`         // this revision
	// Completed says that revision 1 of the id's record was seen to say Ready,
	// which is written before anybody is told of it: a record that is missing
	// after that was lost, and is no creation that never came to its end.
	Completed bool `json:"completed,omitempty"`
	// Backend is the one that does the work, and MemberNodes where a group
	// snapshot's members are cut: an undo must reach them, whatever became of
	// the volumes meanwhile. In a group of several backends MemberBackends has
	// that of each member, and Backend is empty.
	Backend        string                      `json:"backend,omitempty"`
	MemberNodes    map[volume.ID]volume.NodeID `json:"memberNodes,omitempty"`
	MemberBackends map[volume.ID]string        `json:"memberBackends,omitempty"`
}

// MemberBackend is the backend of a group snapshot's source volume.
func (n Name) MemberBackend(source volume.ID) string {
	if b, ok := n.MemberBackends[source]; ok {
		return b
	}
	return n.Backend
}

// Request is what of a creation is compared on a retry. Topology is not, and
// secrets are never stored.
type Request struct {
	Range      volume.Range      `json:"range,omitzero"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Mutable    map[string]string `json:"mutableParameters,omitempty"`
	Source     Source            `json:"source,omitzero"`
	// ReadOnly: the volume is for readers on many nodes alone. It is published
	// read-only and nobody ever writes to it.
	ReadOnly    bool   `json:"readOnly,omitempty"`
	Consistency string `json:"consistency,omitempty"`
	// Members are a group snapshot's source volumes, in ascending order, and
	// the snapshot ids that they get.
	Members map[volume.ID]volume.SnapshotID `json:"members,omitempty"`
}

// Source is what a volume was made from, as CSI named it, or nothing.
type Source struct {
	Snapshot string    `json:"snapshot,omitempty"` // a handle
	Volume   volume.ID `json:"volume,omitempty"`
}

// State is where a record is in its life.
type State string

// The states. An Ended record keeps nothing but its id and name; it outlives its
// subject for a grace period, so that a delayed writer meets it.
const (
	Ready    State = "ready"
	Deleting State = "deleting" // nothing new may use it; its deletion resumes
	Ended    State = "ended"
)

// Volume is the record of a volume.
type Volume struct {
	ID    volume.ID `json:"id"`
	State State     `json:"state"`
	Name  string    `json:"name"`
	// Node is where it is, or, if its backend is shared, where it was last
	// published or made: a hint.
	Node         volume.NodeID `json:"node,omitempty"`
	SizeBytes    int64         `json:"sizeBytes,omitempty"`
	Class        volume.Class  `json:"class,omitzero"`
	Request      Request       `json:"request,omitzero"`
	Publications []Publication `json:"publications,omitempty"`
	Created      time.Time     `json:"created"`
	Changed      time.Time     `json:"changed"`
}

// MultiNodeReaderOnly is CSI's name of the one access mode with which a volume is
// published to several nodes.
const MultiNodeReaderOnly = "MULTI_NODE_READER_ONLY"

// Publication says that a volume is published to a node, and how.
type Publication struct {
	Node       volume.NodeID `json:"node"`
	ReadOnly   bool          `json:"readOnly,omitempty"`
	AccessMode string        `json:"accessMode"` // CSI's name of it
	// Pending: it has its place on the node, but it was not yet seen that the
	// node has so many, and nobody was told of it.
	Pending bool `json:"pending,omitempty"`
}

// Snapshot is the record of a snapshot.
type Snapshot struct {
	ID          volume.SnapshotID  `json:"id"`
	State       State              `json:"state"`
	Name        string             `json:"name,omitempty"`
	Volume      volume.ID          `json:"volume,omitempty"`
	Node        volume.NodeID      `json:"node,omitempty"` // as of a volume
	Group       volume.GroupID     `json:"group,omitempty"`
	SizeBytes   int64              `json:"sizeBytes,omitempty"`
	Class       volume.Class       `json:"class,omitzero"` // its volume's, at the cut
	Consistency volume.Consistency `json:"consistency,omitempty"`
	Filesystem  backend.Filesystem `json:"filesystem,omitzero"`
	Cut         time.Time          `json:"cut,omitzero"` // CSI's creation_time
	Changed     time.Time          `json:"changed"`
}

// Group is the record of a group snapshot. Its members' records are complete
// before it is Ready.
type Group struct {
	ID      volume.GroupID      `json:"id"`
	State   State               `json:"state"`
	Name    string              `json:"name,omitempty"`
	Members []volume.SnapshotID `json:"members,omitempty"` // ascending by source volume
	Cut     time.Time           `json:"cut,omitzero"`
	Changed time.Time           `json:"changed"`
}

// Node is what an engine announces of itself, written when it changes.
type Node struct {
	ID      volume.NodeID `json:"id"`
	Address string        `json:"address"` // of its agent API: "unix:///path" or "host:port"
	// Machine is the kernel's boot id: a repository in a directory serves one
	// machine, and refuses an engine that announces itself from another.
	Machine    string    `json:"machine"`
	Backends   []string  `json:"backends"`
	Pools      []Pool    `json:"pools,omitempty"`
	MaxVolumes int64     `json:"maxVolumes,omitempty"`
	Retired    bool      `json:"retired,omitempty"` // by the operator; ends when it announces itself again
	Changed    time.Time `json:"changed"`
}

// Pool is a local pool of a node.
type Pool struct {
	Name string          `json:"name"`
	Type volume.PoolType `json:"type"`
}

// Tombstone is a deletion that a retired node executes if it returns.
type Tombstone struct {
	Node     volume.NodeID     `json:"node"`
	Volume   volume.ID         `json:"volume,omitempty"`
	Snapshot volume.SnapshotID `json:"snapshot,omitempty"`
	Created  time.Time         `json:"created"`
}
