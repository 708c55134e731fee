package record

import (
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Pool names a pool. It never changes.
type Pool struct {
	ID        string          `json:"id"`   // random, 26 letters a-z2-7
	Name      string          `json:"name"` // as configured when it was made
	Type      volume.PoolType `json:"type"`
	CreatedAt time.Time       `json:"createdAt"`
}

// Volume is all that is known of a volume beside its data.
type Volume struct {
	ID         volume.ID          `json:"id"`
	SizeBytes  int64              `json:"sizeBytes"`
	Class      volume.Class       `json:"class"`
	Filesystem backend.Filesystem `json:"filesystem"`
	CreatedAt  time.Time          `json:"createdAt"`
	// Request is what the volume was created from; a repeated create must ask
	// for the same, whatever became of the volume since.
	Request VolumeRequest `json:"request"`
}

// VolumeRequest is what of a create request is compared when it is repeated.
type VolumeRequest struct {
	SizeBytes int64          `json:"sizeBytes"`
	Class     volume.Class   `json:"class"`
	Source    backend.Source `json:"source"`
}

// Snapshot is all that is known of a snapshot beside its data.
type Snapshot struct {
	ID          volume.SnapshotID  `json:"id"`
	Volume      volume.ID          `json:"volume"`
	SizeBytes   int64              `json:"sizeBytes"`
	Consistency volume.Consistency `json:"consistency"` // as it turned out
	Filesystem  backend.Filesystem `json:"filesystem"`
	// CreatedAt is the moment of the cut. It orders the snapshots of a volume:
	// it is never the same for two of them, however the clock is set.
	CreatedAt time.Time       `json:"createdAt"`
	Pause     time.Duration   `json:"pauseNanoseconds"`
	Predicted time.Duration   `json:"predictedPauseNanoseconds"`
	Request   SnapshotRequest `json:"request"`
}

// SnapshotRequest is what of a create request is compared when it is repeated.
type SnapshotRequest struct {
	Consistency volume.Consistency `json:"consistency"`
}

// Frozen says that a volume's filesystem may be frozen.
type Frozen struct {
	Volume     volume.ID `json:"volume"`
	MountPoint string    `json:"mountPoint"` // for people: it is found by its device
	Since      time.Time `json:"since"`
}
