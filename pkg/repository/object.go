package repository

import (
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// What the object backend adds to the states of a record.
const (
	// Creating is an intent: it is made durable before any work, and says all that
	// a retry must do in the same way.
	Creating State = "creating"
	// Failed is a snapshot that will never be: what it was cut from is void or lost.
	Failed State = "failed"
)

// ObjectVolume is all that is known of a volume of the object backend beside its
// log. It stays when the volume has ended, as a tombstone, with its key ring, which
// the snapshots that outlive it need.
type ObjectVolume struct {
	ID    volume.ID `json:"id"`
	State State     `json:"state"` // Creating, Ready, Deleting, Ended
	// Log is the text of a vlog.LogID.
	Log       string             `json:"log,omitempty"`
	SizeBytes int64              `json:"sizeBytes,omitempty"`
	Class     volume.Class       `json:"class,omitzero"`
	Request   ObjectRequest      `json:"request,omitzero"` // what a repeated create must ask for
	Origin    ObjectOrigin       `json:"origin,omitzero"`
	Files     backend.Filesystem `json:"filesystem,omitzero"`
	Keys      keyring.Ring       `json:"keys,omitzero"`
	Created   time.Time          `json:"created,omitzero"`
	Changed   time.Time          `json:"changed"`
}

// ObjectRequest is what of a create request is compared when it is repeated.
type ObjectRequest struct {
	SizeBytes int64          `json:"sizeBytes"`
	Class     volume.Class   `json:"class"`
	Source    backend.Source `json:"source,omitzero"`
}

// ObjectOrigin is the snapshot that a volume's log starts from, and the nonce of
// the claim that keeps what it needs of it.
type ObjectOrigin struct {
	Snapshot volume.SnapshotID `json:"snapshot,omitempty"`
	Nonce    string            `json:"nonce,omitempty"` // 32 hexadecimal digits
	// Internal: the snapshot was cut for this volume alone, to clone another
	// volume.
	Internal bool `json:"internal,omitempty"`
}

// ObjectSnapshot is all that is known of a snapshot of the object backend. It is
// Creating from before the cut on, so that it pins what it will need, and stays
// when it has ended, as a tombstone.
type ObjectSnapshot struct {
	ID     volume.SnapshotID  `json:"id"`
	State  State              `json:"state"` // Creating, Ready, Failed, Ended
	Why    string             `json:"why,omitempty"`
	Volume volume.ID          `json:"volume,omitempty"`
	Asked  volume.Consistency `json:"asked,omitempty"`
	Log    string             `json:"log,omitempty"`

	// Of one that was Ready.
	Consistency volume.Consistency `json:"consistency,omitempty"` // as it turned out
	Files       backend.Filesystem `json:"filesystem,omitzero"`
	Epoch       vlog.Epoch         `json:"epoch,omitempty"`
	Sequence    vlog.Sequence      `json:"sequence,omitempty"`
	Chain       string             `json:"chain,omitempty"`      // SHA-256, 64 hexadecimal digits
	Checkpoint  string             `json:"checkpoint,omitempty"` // its digest: it vouches for all of the snapshot
	Blocks      vlog.Block         `json:"blocks,omitempty"`
	KeyIDs      []string           `json:"keyIds,omitempty"` // of the volume's key ring
	Cut         time.Time          `json:"cut,omitzero"`
	Pause       time.Duration      `json:"pauseNanoseconds,omitempty"`
	Changed     time.Time          `json:"changed"`
}
