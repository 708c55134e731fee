package engine

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Defaults of options whose zero value means them.
const (
	DefaultMemory      = 1 << 30
	DefaultUploads     = 8
	DefaultUploadDelay = 5 * time.Second
	DefaultLease       = 30 * time.Second
	DefaultGrace       = 24 * time.Hour
	DefaultReadTimeout = 2 * time.Minute
	MinMemory          = 64 << 20

	DefaultCleaningRate = 32 << 20
	DefaultLive         = 0.6
	DefaultIdleLive     = 0.82 // with what frames and tables take, 1.25 bytes are stored for each that lives
	DefaultIdleAfter    = time.Minute
)

// Options are what all volumes of an engine share.
type Options struct {
	// Cache is the node's read cache; nil: there is none.
	Cache *cache.Cache
	// Storage is where journals are; nil is the operating system's files.
	Storage disk.Storage
	// MemoryBytes bounds what all open volumes together take: extent tables, what is
	// not yet uploaded, and segments under way. 0 is DefaultMemory.
	MemoryBytes int64
	// Uploads is how many segments are formed or under way at once, of all
	// volumes; each takes up to 9 MiB of the memory. 0 is DefaultUploads.
	Uploads int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Validate reports all faults at once. Invalid.
func (o Options) Validate() error {
	var faults []error
	if o.MemoryBytes != 0 && o.MemoryBytes < MinMemory {
		faults = append(faults, fault.New(fault.Invalid, "MemoryBytes %d: want 0 (%d) or at least %d", o.MemoryBytes, DefaultMemory, MinMemory))
	}
	if o.Uploads < 0 || o.Uploads > 64 {
		faults = append(faults, fault.New(fault.Invalid, "Uploads %d: want 0 (%d) to 64", o.Uploads, DefaultUploads))
	}
	if err := errors.Join(faults...); err != nil {
		return fault.As(fault.Invalid, err)
	}
	return nil
}

// Keys are the data keys that a volume's log is read and written with.
type Keys struct {
	// Write seals what the volume writes; nil: it is not encrypted.
	Write *frame.DataKey
	// Read are further keys: of the logs that it was cloned from.
	Read []*frame.DataKey
}

// all returns the keys, the one that seals first.
func (k Keys) all() []*frame.DataKey { return append([]*frame.DataKey{k.Write}, k.Read...) }

// find returns the key with an id; nil for the zero id, which is no encryption.
func (k Keys) find(id frame.KeyID) (*frame.DataKey, error) {
	if id == (frame.KeyID{}) {
		return nil, nil
	}
	for _, key := range k.all() {
		if key.ID() == id {
			return key, nil
		}
	}
	return nil, fault.New(fault.Precondition, "it is encrypted with the data key %s, which is not among the volume's", id)
}

// Durability says what a flush of a volume waits for.
type Durability = epoch.Promise

// The classes.
const (
	JournalDurability = epoch.JournalPromise // for the journal on this node
	ObjectDurability  = epoch.ObjectPromise  // until everything before it counts in the repository
)

// Tuning is what of a volume may change while it is open.
type Tuning struct {
	// UploadDelay is how long a write may wait for others before it is uploaded with
	// them; 0 is DefaultUploadDelay.
	UploadDelay time.Duration
	Compression frame.Compression
	// ReadTimeout is how long a read waits for a store that is away before it fails;
	// 0 is DefaultReadTimeout.
	ReadTimeout time.Duration
	Cleaning    Cleaning
}

// Cleaning says how sparse segments may become before what lives in them is written
// anew. Shares are of the blocks that segments had when they were stored.
type Cleaning struct {
	// Rate is how many bytes a second are written anew at most; 0 is
	// DefaultCleaningRate, less than that is none.
	Rate int64
	// Target is the share that is to live in a volume that is written, and IdleTarget
	// in one that has rested for IdleAfter; 0 is DefaultLive, DefaultIdleLive and
	// DefaultIdleAfter.
	Target, IdleTarget float64
	IdleAfter          time.Duration
	// MaxShare is the share from which on a segment is not worth it, below 1; 0 is
	// 0.9. It is to be low where what is written anew is copied to another cloud.
	MaxShare float64
}

func (c Cleaning) withDefaults() Cleaning {
	if c.Rate == 0 {
		c.Rate = DefaultCleaningRate
	}
	if c.Target == 0 {
		c.Target = DefaultLive
	}
	if c.IdleTarget == 0 {
		c.IdleTarget = DefaultIdleLive
	}
	if c.IdleAfter == 0 {
		c.IdleAfter = DefaultIdleAfter
	}
	return c
}

func (t Tuning) withDefaults() Tuning {
	if t.UploadDelay == 0 {
		t.UploadDelay = DefaultUploadDelay
	}
	if t.ReadTimeout == 0 {
		t.ReadTimeout = DefaultReadTimeout
	}
	t.Cleaning = t.Cleaning.withDefaults()
	return t
}

// LogOptions say which log is meant, and how it is read.
type LogOptions struct {
	// Store is the repository's, with retries.
	Store objstore.Store
	Log   vlog.LogID
	Keys  Keys
}

// OpenOptions say which volume is opened for writing, and how.
type OpenOptions struct {
	LogOptions
	Volume volume.ID
	// Blocks is the size of the volume, as its record has it; the log may still be
	// of a smaller one.
	Blocks vlog.Block
	// Owner is this node's id, at most 63 bytes.
	Owner string
	// Journal is the absolute path of the journal's file, and JournalBytes the size
	// of its ring if it is to be made; 0 is journal.DefaultSize.
	Journal      string
	JournalBytes int64
	Durability   Durability
	// TakeOver allows to fence another node that has the log open. Off, Open is
	// InUse then: for work on a volume that is not attached.
	TakeOver bool
	// Rollback allows, with TakeOver, to drop what another node acknowledged on its
	// journal and did not upload. Off, Open is Precondition then, naming the node.
	// While a volume is open with it and JournalDurability, nothing is acknowledged
	// later than Lease after this node last saw that it has no successor.
	Rollback bool
	Lease    time.Duration // 0 is DefaultLease
	// Stopped, if not nil, asks the node whose epoch is taken over whether it has
	// stopped to acknowledge: if so its lease need not be waited for.
	Stopped func(ctx context.Context, owner string) bool
	// Recheck is asked once the epoch is claimed: whether the volume is still to be
	// opened. An error ends the opening.
	Recheck func(ctx context.Context) error
	// Grace is how long a checkpoint is kept, and what it needs, after another one
	// followed; 0 is DefaultGrace. See package garbage.
	Grace time.Duration
	// Cache is a cache of the volume's own; nil: the engine's. With Full all of the
	// volume is brought into it and kept there, in the background; it is to be larger
	// than the volume, by a quarter or so.
	Cache *cache.Cache
	Full  bool
	Tuning
}

// Validate reports all faults at once. Invalid.
func (o OpenOptions) Validate() error {
	var faults []error
	say := func(format string, args ...any) { faults = append(faults, fault.New(fault.Invalid, format, args...)) }
	if o.Store == nil || o.Log == (vlog.LogID{}) || o.Volume == "" || o.Owner == "" {
		say("Store, Log %s, Volume %q, Owner %q: want all of them", o.Log, o.Volume, o.Owner)
	}
	if o.Blocks < 1 || o.Blocks > vlog.MaxBlocks {
		say("Blocks %d: want 1 to %d", o.Blocks, vlog.MaxBlocks)
	}
	if !filepath.IsAbs(o.Journal) {
		say("Journal %q: want an absolute path", o.Journal)
	}
	if o.JournalBytes != 0 && (o.JournalBytes < journal.MinSize || o.JournalBytes > journal.MaxSize) {
		say("JournalBytes %d: want 0, or %d to %d", o.JournalBytes, journal.MinSize, int64(journal.MaxSize))
	}
	if c := o.Cleaning; c.Target < 0 || c.Target > 1 || c.IdleTarget < 0 || c.IdleTarget > 1 || c.MaxShare < 0 || c.MaxShare >= 1 || c.IdleAfter < 0 {
		say("Cleaning %+v: want Target and IdleTarget from 0 to 1, MaxShare below 1, and no negative IdleAfter", c)
	}
	if o.Durability != JournalDurability && o.Durability != ObjectDurability {
		say("Durability %d: want JournalDurability or ObjectDurability", o.Durability)
	}
	if err := errors.Join(faults...); err != nil {
		return fault.As(fault.Invalid, err)
	}
	return nil
}
