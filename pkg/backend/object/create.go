package object

import (
	"context"
	"errors"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateVolume implements backend.Backend. No data is read or copied: a volume from
// a snapshot takes ten requests, whatever its size.
func (b *Backend) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	v, err := b.createVolume(ctx, r)
	return v, fault.Wrap(err, "create volume", string(r.ID))
}

func (b *Backend) createVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	if err := validate(r); err != nil {
		return backend.Volume{}, err
	}
	s, err := b.site(ctx)
	if err != nil {
		return backend.Volume{}, err
	}
	if id := r.Class.Repository; id != "" && id != s.Repository.ID() {
		return backend.Volume{}, fault.New(fault.Invalid, "parameter %s: %s: want %s, the repository of this site, or none", volume.ParamRepository, id, s.Repository.ID())
	}
	unlock, err := b.lockForCreate(ctx, r)
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	return b.creation(s, r).run(ctx)
}

// validate looks at what callers can get wrong, as Invalid, and OutOfRange for a
// size that no volume can have.
func validate(r backend.CreateVolumeRequest) error {
	var faults []error
	say := func(format string, args ...any) { faults = append(faults, fault.New(fault.Invalid, format, args...)) }
	if _, err := volume.ParseID(string(r.ID)); err != nil {
		say("id: %w", err)
	}
	if r.SizeBytes < volume.MinimumBytes || r.SizeBytes%volume.SizeUnit != 0 {
		say("size: %d bytes: want a multiple of %d from %d on", r.SizeBytes, volume.SizeUnit, volume.MinimumBytes)
	}
	if r.Source.Snapshot != "" && r.Source.Volume != "" {
		say("source: snapshot %s and volume %s: want one of the two", r.Source.Snapshot, r.Source.Volume)
	}
	if r.Source.Volume == r.ID && r.ID != "" {
		say("source: volume %s is the volume itself: want another", r.Source.Volume)
	}
	if r.Class.Backend != volume.BackendObject {
		say("class.backend: %q: want %q", r.Class.Backend, volume.BackendObject)
	}
	if err := fault.As(fault.Invalid, errors.Join(faults...)); err != nil {
		return err
	}
	if err := r.Class.CheckSize(r.SizeBytes); err != nil {
		return err
	}
	if r.Source.Snapshot != "" {
		if _, err := volume.ParseSnapshotID(string(r.Source.Snapshot)); err != nil {
			return err
		}
	}
	if r.Source.Volume != "" {
		_, err := volume.ParseID(string(r.Source.Volume))
		return err
	}
	return nil
}

// lockForCreate locks the volume and the one that it is cloned from, in ascending
// order.
func (b *Backend) lockForCreate(ctx context.Context, r backend.CreateVolumeRequest) (unlock func(), err error) {
	all := []volume.ID{r.ID}
	if r.Source.Volume != "" {
		all = append(all, r.Source.Volume)
	}
	return b.lockAll(ctx, all, "creating volume "+string(r.ID))
}

// creation is one call of CreateVolume.
type creation struct {
	*site
	b *Backend
	r backend.CreateVolumeRequest

	record volumeRecord // its newest revision
	origin repository.ObjectSnapshot
}

func (b *Backend) creation(s *site, r backend.CreateVolumeRequest) *creation {
	return &creation{site: s, b: b, r: r}
}

func (c *creation) request() repository.ObjectRequest {
	return repository.ObjectRequest{SizeBytes: c.r.SizeBytes, Class: c.r.Class, Source: c.r.Source}
}

// run makes the intent durable, or finds that of an earlier try, and follows it.
func (c *creation) run(ctx context.Context) (backend.Volume, error) {
	if err := c.begin(ctx); err != nil {
		return backend.Volume{}, err
	}
	v := c.record.Value
	switch {
	case v.State == repository.Deleting || v.State == repository.Ended:
		return backend.Volume{}, fault.New(fault.Fenced, "%s was deleted: an id is never used again", v.ID)
	case v.Request != c.request():
		return backend.Volume{}, fault.New(fault.Exists, "the id belongs to a volume that was created from %+v: want %+v", v.Request, c.request())
	case v.State == repository.Ready:
		if err := check(v, c.r.Secrets); err != nil {
			return backend.Volume{}, err
		}
		return c.b.reply(v), nil
	}
	if err := c.follow(ctx); err != nil {
		return backend.Volume{}, err
	}
	return c.b.reply(c.record.Value), nil
}

// begin writes the intent, unless the id has a record that stands in its way.
func (c *creation) begin(ctx context.Context) error {
	ledger := c.Repository.ObjectVolumes
	for {
		written, err := ledger.Append(ctx, string(c.r.ID), c.record, c.intent())
		if err == nil {
			crashpoint.Here("object: intent recorded")
		}
		if !fault.Is(err, fault.Busy) {
			c.record = written
			return err
		}
		if c.record, err = ledger.Latest(ctx, string(c.r.ID)); err != nil || c.record.Value.State != repository.Failed {
			return err
		}
	}
}

func (c *creation) intent() repository.ObjectVolume {
	v := repository.ObjectVolume{
		ID: c.r.ID, State: repository.Creating, Log: firstLog(c.r.ID), SizeBytes: c.r.SizeBytes, Class: c.r.Class,
		Request: c.request(), Created: c.b.now(), Changed: c.b.now(),
	}
	if c.r.Source != (backend.Source{}) {
		v.Origin = repository.ObjectOrigin{Snapshot: c.r.Source.Snapshot, Nonce: vlog.NewNonce().String()}
	}
	if c.r.Source.Volume != "" {
		v.Origin.Snapshot, v.Origin.Internal = volume.NewSnapshotID(), true
	}
	return v
}

// follow does what the intent says, or what an earlier try left of it. A source
// that cannot serve leaves the id free.
func (c *creation) follow(ctx context.Context) error {
	if c.record.Value.Origin.Internal {
		if err := c.cutSource(ctx); err != nil {
			return c.failed(ctx, err)
		}
	}
	keys, err := c.source(ctx)
	if err != nil {
		return c.failed(ctx, err)
	}
	ready, err := c.ready(keys)
	if err != nil {
		return c.failed(ctx, err)
	}
	if err := c.makeLog(ctx); err != nil {
		return err
	}
	crashpoint.Here("object: log made")
	previous := c.record
	c.record, err = c.Repository.ObjectVolumes.Append(ctx, string(c.r.ID), previous, ready)
	if fault.Is(err, fault.Busy) {
		return c.overtaken(ctx, previous)
	}
	if err != nil {
		return err
	}
	crashpoint.Here("object: volume ready")
	if c.record.Value.Origin.Internal {
		return c.b.deleteSnapshot(ctx, c.site, c.record.Value.Origin.Snapshot)
	}
	return nil
}

// makeLog writes the base of the log.
func (c *creation) makeLog(ctx context.Context) error {
	v := c.record.Value
	log, err := logOf(v)
	if err != nil {
		return err
	}
	from := epoch.Base{Blocks: blocks(v.SizeBytes)}
	if v.Origin.Snapshot != "" {
		if from, err = base(c.origin, from.Blocks); err != nil {
			return err
		}
	}
	from.Time = v.Created
	return epoch.Log{Store: c.Store, ID: log}.Create(ctx, from)
}

// overtaken finds out who followed the intent before this call came to its end: the
// same creation elsewhere, or a deletion, which has not seen all that this made.
func (c *creation) overtaken(ctx context.Context, intent volumeRecord) error {
	var err error
	if c.record, err = c.Repository.ObjectVolumes.Latest(ctx, string(c.r.ID)); err != nil {
		return err
	}
	switch now := c.record.Value; {
	case now.State == repository.Ready && now.Request == c.request():
		return nil
	case now.State != repository.Deleting && now.State != repository.Ended:
		return fault.New(fault.Busy, "others are creating it: try again")
	}
	if err := c.b.discard(ctx, c.site, intent.Value); err != nil {
		return err
	}
	return fault.New(fault.Fenced, "it was deleted meanwhile")
}

// failed gives the id free if the creation can never succeed, and nobody was told
// of it: its claim is released, and the next create may ask for something else.
func (c *creation) failed(ctx context.Context, cause error) error {
	switch fault.KindOf(cause) {
	case fault.NotFound, fault.OutOfRange, fault.Invalid, fault.Precondition, fault.InUse:
	default:
		return cause
	}
	v := c.record.Value
	if err := c.releaseOrigin(ctx, v); err != nil {
		return cause
	}
	if v.Origin.Internal {
		if err := c.b.deleteSnapshot(ctx, c.site, v.Origin.Snapshot); err != nil {
			return cause
		}
	}
	v.State, v.Origin, v.Changed = repository.Failed, repository.ObjectOrigin{}, c.b.now()
	_, _ = c.Repository.ObjectVolumes.Append(ctx, string(v.ID), c.record, v) // if another one did something else, that counts
	return cause
}

// originClaim is the claim of a volume on the snapshot that it starts from. Its
// dependent is the log, since it lasts as long as that has data.
func originClaim(v repository.ObjectVolume, holder string) (claim.Claim, error) {
	c := claim.Claim{Subject: claim.Subject(v.Origin.Snapshot), Dependent: v.Log, Holder: holder}
	err := unhex(c.Nonce[:], v.Origin.Nonce)
	return c, fault.Wrap(err, "record of volume", string(v.ID))
}

// releaseOrigin gives back the claim of a volume on what it starts from.
func (s *site) releaseOrigin(ctx context.Context, v repository.ObjectVolume) error {
	if v.Origin.Nonce == "" {
		return nil
	}
	c, err := originClaim(v, "")
	if err != nil {
		return err
	}
	return s.claims.Release(ctx, c)
}
