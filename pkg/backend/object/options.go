package object

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Devices gives devices to disks: a front-end. It outlives nobody: what its devices
// need beyond this process, so that they pause and go on, is its own affair.
type Devices interface {
	// Attach gives a device to a volume's disk, or the disk to the device that an
	// earlier process left, which then goes on. Repeated with the same disk it
	// returns the same device. InUse for other options; Exhausted.
	Attach(ctx context.Context, id volume.ID, disk blockdev.Disk, o blockdev.Options) (blockdev.Device, error)
	// Find returns the devices that earlier processes left, and that are not
	// attached yet.
	Find(ctx context.Context) (map[volume.ID]blockdev.Device, error)
	// Resize makes the device as large as its disk has become.
	Resize(ctx context.Context, id volume.ID) error
	// Detach takes the device away. None is success. InUse if it is open; it then
	// stays. When it has returned nil, nobody uses the disk.
	Detach(ctx context.Context, id volume.ID) error
	// Close ends the service; the devices stay, and pause until the next process
	// attaches them. When it has returned, nobody uses the disks.
	Close(ctx context.Context) error
}

// Home is the repository in which the volumes are.
type Home struct {
	Repository *repository.Repository
	Store      objstore.Store // the same store, with retries, for whole segments
}

// Options of Open.
type Options struct {
	// Home returns the repository once its store can be reached; Transient until
	// then. It is asked again after an error, and by one goroutine at a time.
	Home    func(ctx context.Context) (Home, error)
	Engine  *engine.Engine // closed by its owner, after the backend
	Devices Devices        // closed with the backend
	Node    volume.NodeID
	// Dir is an absolute path on a disk that survives a restart of the machine: the
	// journals, which hold what was acknowledged.
	Dir string
	// RuntimeDir is an absolute path whose content may vanish with the machine. Data
	// keys are kept there only if it is in memory (tmpfs): without them an encrypted
	// volume pauses, when the engine is started again, until it is staged with its
	// key.
	RuntimeDir string
	// JournalBytes is the size of a journal; 0: journal.DefaultSize.
	JournalBytes int64
	// MaxVolumes is how many volumes can be attached at once; 0: no limit.
	MaxVolumes int
	// PauseLimit is how long a freeze lasts at most; 0: backend.PauseLimit.
	PauseLimit time.Duration
	// Grace is how long data stays after it was deleted; 0: engine.DefaultGrace.
	Grace time.Duration
	// Lease is for how long a node that may be gone back from acknowledges without a
	// look; 0: engine.DefaultLease. The same on all nodes of a site.
	Lease time.Duration
	// CollectAfter is how long after the start, and after the end of a grace period,
	// the trash is looked at; up to twice as long. 0: one minute.
	CollectAfter time.Duration
	Now          func() time.Time // nil: time.Now
}

// Validate reports every fault at once, as Invalid.
func (o Options) Validate() error {
	var faults []error
	say := func(format string, args ...any) { faults = append(faults, fault.New(fault.Invalid, format, args...)) }
	if o.Home == nil || o.Engine == nil || o.Devices == nil {
		say("Home, Engine, Devices: want all of them")
	}
	if _, err := volume.ParseNodeID(string(o.Node)); err != nil {
		faults = append(faults, err)
	}
	for name, path := range map[string]string{"dir": o.Dir, "runtimeDir": o.RuntimeDir} {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
			say("%s: %q: want an absolute, clean path", name, path)
		}
	}
	if o.JournalBytes != 0 && (o.JournalBytes < journal.MinSize || o.JournalBytes > journal.MaxSize || o.JournalBytes%volume.SizeUnit != 0) {
		say("journalBytes: %d: want 0 (%d), or a multiple of %d from %d to %d", o.JournalBytes, int64(journal.DefaultSize), volume.SizeUnit, journal.MinSize, int64(journal.MaxSize))
	}
	if o.MaxVolumes < 0 || o.PauseLimit < 0 || o.Grace < 0 || o.Lease < 0 || o.CollectAfter < 0 {
		say("maxVolumes %d, pauseLimit %v, grace %v, lease %v, collectAfter %v: want 0 or more", o.MaxVolumes, o.PauseLimit, o.Grace, o.Lease, o.CollectAfter)
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

func (o Options) withDefaults() Options {
	if o.PauseLimit == 0 {
		o.PauseLimit = backend.PauseLimit
	}
	if o.Grace == 0 {
		o.Grace = engine.DefaultGrace
	}
	if o.CollectAfter == 0 {
		o.CollectAfter = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
