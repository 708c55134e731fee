package backend

import (
	"context"
	"iter"
	"time"

	"github.com/holkas-io/holkas/pkg/volume"
)

// Backend keeps volumes. All methods may be called from several goroutines.
// Errors are of package fault; Invalid (for arguments that can never be right),
// NotFound, Busy, Transient, Canceled, Deadline and Internal can come from every
// method and are not repeated below.
type Backend interface {
	// CreateVolume makes a volume, blank or from a source in the same backend.
	// Its parts are complete and durable before it returns. Exists if the id is
	// taken by a different one, Fenced if it was deleted, Exhausted if it does
	// not fit (everything is undone), OutOfRange if the source is larger,
	// Precondition if the source would have to be paused for too long.
	CreateVolume(ctx context.Context, r CreateVolumeRequest) (Volume, error)
	// DeleteVolume removes a volume and remembers that it did; its snapshots and
	// clones live on. An unknown id is success. InUse while somebody has its
	// device open; one that nobody uses is detached.
	DeleteVolume(ctx context.Context, id volume.ID) error
	// ExpandVolume grows a volume, attached or not, to at least sizeBytes (a
	// multiple of volume.SizeUnit); a smaller size changes nothing. Exhausted if
	// it does not fit.
	ExpandVolume(ctx context.Context, id volume.ID, sizeBytes int64) (Volume, error)
	// ModifyVolume changes what of a class may change; holes of a volume that
	// becomes thick are filled while it is in use. Invalid, Exhausted.
	ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) (Volume, error)
	// RecordFilesystem notes what a volume is formatted with, see Filesystem.
	RecordFilesystem(ctx context.Context, id volume.ID, f Filesystem) error
	// Volume returns one volume. Of one that is attached here it asks nobody else:
	// the node service looks at each every minute, also while a repository is away.
	Volume(ctx context.Context, id volume.ID) (Volume, error)
	// Volumes yields every volume in ascending order of id. An error ends it.
	Volumes(ctx context.Context) iter.Seq2[Volume, error]

	// CreateSnapshot cuts a snapshot of one volume at one moment between two
	// writes. Precondition if writers would be paused for longer than the class
	// allows, or if the state of the volume does not allow the consistency that
	// is asked for; Exhausted if its volume could afterwards meet a full pool.
	CreateSnapshot(ctx context.Context, r CreateSnapshotRequest) (Snapshot, error)
	// DeleteSnapshot removes a snapshot and remembers that it did; volumes made
	// from it live on. An unknown id is success.
	DeleteSnapshot(ctx context.Context, id volume.SnapshotID) error
	// Snapshot returns one snapshot.
	Snapshot(ctx context.Context, id volume.SnapshotID) (Snapshot, error)

	// Pause stops the writers of all these volumes, for at most PauseLimit,
	// after which they go on whatever happens. Repeated with the same id it
	// returns what it did before. Precondition for a volume that cannot be
	// paused; then none is.
	Pause(ctx context.Context, id PauseID, volumes []volume.ID) error
	// Resume ends a pause. Precondition if it had ended by itself, or was never
	// held by this process: snapshots cut under it are then void. An id that
	// was resumed already is success.
	Resume(ctx context.Context, id PauseID) error

	// Attach gives a volume's block device on this node. Repeated it returns the
	// same device. InUse if it is attached with another mode. Exhausted if no
	// device is to be had.
	Attach(ctx context.Context, r AttachRequest) (Device, error)
	// Detach takes the device away, and all that was written is then where any node
	// that may attach the volume finds it. Not attached is success. InUse if
	// somebody still has it open.
	Detach(ctx context.Context, id volume.ID) error

	// Allocated yields the ranges of a snapshot that hold data, ascending, from
	// offset on (a range that straddles it is clipped). It reads no data and
	// needs constant memory. OutOfRange if offset is negative or beyond the end;
	// at the end there is nothing. An error is the last element: a stream that
	// ends without one is whole, also when the snapshot is deleted meanwhile
	// (NotFound).
	Allocated(ctx context.Context, id volume.SnapshotID, offset int64) iter.Seq2[Extent, error]
	// Delta yields the ranges of target that may differ from base, ascending,
	// from offset on, as Allocated does. A range that is not yielded is equal;
	// behind its end base counts as zeros. Invalid if the two are not of one
	// volume or base is the younger one.
	Delta(ctx context.Context, base, target volume.SnapshotID, offset int64) iter.Seq2[Extent, error]

	// Capacity says how much could be created now for a class.
	Capacity(ctx context.Context, class volume.Class) (Capacity, error)
	// VolumeHealth returns what is wrong with a volume; empty when nothing is.
	VolumeHealth(ctx context.Context, id volume.ID) ([]Health, error)
	// Health returns what is wrong with the backend itself on this node.
	Health(ctx context.Context) ([]Health, error)
}

// CreateVolumeRequest says what to create.
type CreateVolumeRequest struct {
	ID        volume.ID
	SizeBytes int64 // a multiple of volume.SizeUnit
	Class     volume.Class
	Source    Source // zero: blank
	// ReadOnly says that nobody will write to it, and that its filesystem is mounted
	// from where it is attached Shared. What the first mount of a clone would write
	// (the filesystem's journal replayed, an identity of its own) is there when the
	// creation returns, with its filesystem Formatted: package node's Settling does
	// that before every backend. It is not said of what is used as raw block, which
	// stays as it is.
	ReadOnly bool
	Secrets  volume.Secrets
}

// Source is what a volume starts from: a snapshot, a volume, or nothing.
type Source struct {
	Snapshot volume.SnapshotID `json:"snapshot,omitempty"`
	Volume   volume.ID         `json:"volume,omitempty"`
}

// Volume is the state of a volume.
type Volume struct {
	ID         volume.ID
	SizeBytes  int64
	Class      volume.Class
	Source     Source
	Pool       string // the pool that it lives in
	Filesystem Filesystem
	CreatedAt  time.Time
	Device     string // the path of its device while it is attached, else empty
	UsedBytes  int64  // bytes of its pool that it references, shared ones included
}

// Filesystem records how far a volume's formatting has come. The node writes
// Formatting before mkfs and Formatted after it, so that a volume that once held
// a filesystem is never formatted again, however blank it looks.
type Filesystem struct {
	Type  volume.Filesystem `json:"type,omitempty"`
	State FormatState       `json:"state,omitempty"`
}

// FormatState is how far formatting has come.
type FormatState string

// The states.
const (
	NeverFormatted FormatState = ""
	Formatting     FormatState = "formatting" // mkfs may have begun; nothing was ever stored
	Formatted      FormatState = "formatted"
	// Cloned: formatted, but with the identity (UUID) of the volume that it was
	// cloned from; the node gives it its own before it mounts it.
	Cloned FormatState = "cloned"
)

// CreateSnapshotRequest says what to snapshot.
type CreateSnapshotRequest struct {
	ID          volume.SnapshotID
	Volume      volume.ID
	Consistency volume.Consistency
	// Pause, if not empty, is the pause under which the cut is made.
	Pause   PauseID
	Secrets volume.Secrets
}

// Snapshot is a volume as it was at one moment. It never changes.
type Snapshot struct {
	ID          volume.SnapshotID
	Volume      volume.ID
	SizeBytes   int64
	Consistency volume.Consistency // as it turned out
	Filesystem  Filesystem
	CreatedAt   time.Time     // the moment of the cut
	Pause       time.Duration // how long writers were blocked
	// PredictedPause is what was expected before the cut; 0 where the pause does
	// not depend on what is in the volume.
	PredictedPause time.Duration
}

// PauseID names one pause; the caller makes it up, at random.
type PauseID string

// PauseLimit is how long a pause lasts at most.
const PauseLimit = 10 * time.Second

// AttachRequest says how to attach a volume.
type AttachRequest struct {
	ID       volume.ID
	ReadOnly bool
	// Shared, with ReadOnly, says that other nodes may have it attached at the same
	// time, read-only as here: nothing is written for it, in the repository either,
	// and no node is kept from it. A backend whose volumes are on one node takes it
	// for ReadOnly alone.
	Shared  bool
	Secrets volume.Secrets
}

// Device is a volume's block device on a node.
type Device struct {
	Path       string // "/dev/loop7"
	SizeBytes  int64
	ReadOnly   bool
	Filesystem Filesystem
}

// Extent is a range of a volume's bytes.
type Extent struct {
	Offset int64
	Length int64
}

// Capacity says what could be created now.
type Capacity struct {
	AvailableBytes     int64 // over all suitable pools
	MaximumVolumeBytes int64 // the largest single volume
}

// Severity orders health, as CSI's VolumeHealthErrorType and
// StorageHealthErrorType do.
type Severity string

// The severities.
const (
	Degraded     Severity = "degraded"
	Inaccessible Severity = "inaccessible"
	DataLoss     Severity = "data-loss"
)

// Health is one thing that is wrong.
type Health struct {
	Severity Severity
	Reason   string // one CamelCase word, for programs: "PoolReadOnly"
	Message  string // for people: what is wrong and what to do
}
