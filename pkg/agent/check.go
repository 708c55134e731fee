package agent

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// check reads the fields of one message and gathers what is wrong with them. The
// server reads requests with it, the client replies.
type check struct {
	faults []error
	other  error // the first of another kind
}

// err returns what was wrong: all that is Invalid, or else NotFound for an id
// that Holkas cannot have made, or OutOfRange.
func (c *check) err() error {
	if len(c.faults) > 0 {
		return fault.As(fault.Invalid, errors.Join(c.faults...))
	}
	return c.other
}

func (c *check) say(format string, args ...any) {
	c.faults = append(c.faults, fault.New(fault.Invalid, format, args...))
}

// that reports a field that does not hold.
func (c *check) that(ok bool, field string, value any, want string) {
	if ok {
		return
	}
	if s, isString := value.(string); isString {
		c.say("%s: %q: want %s", field, clip(s), want)
		return
	}
	c.say("%s: %v: want %s", field, value, want)
}

// word is what a backend is called, token is fit for a header, plain for a log.
var (
	word  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	token = regexp.MustCompile(`^[-A-Za-z0-9_.]{1,64}$`)
	plain = regexp.MustCompile(`^[^\p{C}]{1,128}$`)
)

// volume and snapshot read the id of something that exists, or does not.
func (c *check) volume(field, s string) volume.ID {
	id, err := volume.ParseID(s)
	c.instead(err, field)
	return id
}

func (c *check) snapshot(field, s string) volume.SnapshotID {
	id, err := volume.ParseSnapshotID(s)
	c.instead(err, field)
	return id
}

// instead notes an error of another kind than Invalid, if it is one.
func (c *check) instead(err error, field string) {
	if err != nil && c.other == nil {
		c.other = fault.Wrap(err, field, "")
	}
}

func (c *check) offset(n int64) int64 {
	if n < 0 {
		c.instead(fault.New(fault.OutOfRange, "%d: want 0 or more", n), "offset")
	}
	return n
}

// newID reads the id of what is to be made.
func (c *check) newID(err error) {
	if err != nil {
		c.say("id: %w", err)
	}
}

func (c *check) pause(field, s string) backend.PauseID {
	c.that(plain.MatchString(s), field, s, "1 to 128 printable characters")
	return backend.PauseID(s)
}

func (c *check) size(n, least int64) int64 {
	c.that(n >= least && n%volume.SizeUnit == 0, "size_bytes", n, "a multiple of 4096, and no less than the least size")
	return n
}

// oneOf reads a word that is one of two.
func oneOf[T ~string](c *check, field, s string, a, b T) T {
	c.that(T(s) == a || T(s) == b, field, s, fmt.Sprintf("%q or %q", a, b))
	return T(s)
}

// maybe is oneOf for a word that may be absent, which is empty.
func maybe[T ~string](c *check, field, s string, a, b T) T {
	if s == "" {
		return ""
	}
	return oneOf(c, field, s, a, b)
}

// asGiven is oneOf for a word that stays as it is when absent.
func asGiven[T ~string](c *check, field string, s *string, a, b T) *T {
	if s == nil {
		return nil
	}
	word := oneOf(c, field, *s, a, b)
	return &word
}

func (c *check) cacheBytes(field string, n int64) int64 {
	c.that(volume.ValidCacheBytes(n), field, n, "0 (the shared cache), -1 (all of the volume), or 64 MiB to 64 TiB")
	return n
}

func (c *check) consistency(field, s string) volume.Consistency {
	return oneOf(c, field, s, volume.FilesystemConsistent, volume.CrashConsistent)
}

// duration reads a duration from zero to most; absent is zero.
func (c *check) duration(field string, d *durationpb.Duration, most time.Duration) time.Duration {
	if d == nil {
		return 0
	}
	if err := d.CheckValid(); err != nil {
		c.say("%s: %w", field, err)
		return 0
	}
	v := d.AsDuration()
	c.that(v >= 0 && v <= most, field, v, "0 to "+most.String())
	return v
}

func (c *check) time(field string, t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	if err := t.CheckValid(); err != nil {
		c.say("%s: %w", field, err)
	}
	return t.AsTime()
}

func (c *check) class(p *agentpb.Class) volume.Class {
	class := volume.Class{
		Backend:          p.GetBackend(),
		Provisioning:     maybe(c, "class.provisioning", p.GetProvisioning(), volume.Thick, volume.Thin),
		Pool:             p.GetPool(),
		PoolType:         volume.PoolType(p.GetPoolType()),
		MaxSnapshotPause: c.duration("class.max_snapshot_pause", p.GetMaxSnapshotPause(), maxPause),
		CacheBytes:       c.cacheBytes("class.cache_bytes", p.GetCacheBytes()),
		Durability:       maybe(c, "class.durability", p.GetDurability(), volume.JournalDurability, volume.ObjectDurability),
		OnNodeLoss:       maybe(c, "class.on_node_loss", p.GetOnNodeLoss(), volume.Wait, volume.Rollback),
		UploadDelay:      c.duration("class.upload_delay", p.GetUploadDelay(), volume.MaxUploadDelay),
		Compression:      maybe(c, "class.compression", p.GetCompression(), volume.Zstd, volume.NoCompression),
		Encryption:       maybe(c, "class.encryption", p.GetEncryption(), volume.NoEncryption, volume.AES256GCM),
	}
	c.that(class.Backend == "" || word.MatchString(class.Backend), "class.backend", class.Backend, "the name of a backend")
	if p.GetRepository() != "" {
		id, err := volume.ParseRepositoryID(p.GetRepository())
		if err != nil {
			c.say("class.repository: %w", err)
		}
		class.Repository = id
	}
	if class.Pool != "" {
		if _, err := volume.ParsePoolName(class.Pool); err != nil {
			c.say("class.pool: %w", err)
		}
	}
	c.poolType("class.pool_type", p.GetPoolType())
	return class
}

// maxPause is the longest maxSnapshotPause that a class can have.
const maxPause = time.Hour

func (c *check) poolType(field, s string) volume.PoolType {
	switch t := volume.PoolType(s); t {
	case volume.AnyPool, volume.XFSPool, volume.BtrfsPool:
		return t
	}
	c.that(false, field, s, `"xfs", "btrfs" or nothing`)
	return ""
}

func (c *check) source(p *agentpb.Source) (s backend.Source) {
	if p.GetSnapshot() != "" {
		s.Snapshot = c.snapshot("source.snapshot", p.GetSnapshot())
	}
	if p.GetVolume() != "" {
		s.Volume = c.volume("source.volume", p.GetVolume())
	}
	if s.Snapshot != "" && s.Volume != "" {
		c.say("source: snapshot %s and volume %s: want one of the two", clip(p.GetSnapshot()), clip(p.GetVolume()))
	}
	return s
}

func (c *check) filesystem(p *agentpb.Filesystem) backend.Filesystem {
	f := backend.Filesystem{Type: volume.Filesystem(p.GetType()), State: backend.FormatState(p.GetState())}
	switch f.Type {
	case volume.NoFilesystem, volume.Ext4, volume.XFS, volume.Btrfs:
	default:
		c.that(false, "filesystem.type", p.GetType(), `"ext4", "xfs", "btrfs" or nothing`)
	}
	switch f.State {
	case backend.NeverFormatted:
	case backend.Formatting, backend.Formatted, backend.Cloned:
		if f.Type == volume.NoFilesystem {
			c.say("filesystem.type: empty with state %q: want a type", f.State)
		}
	default:
		c.that(false, "filesystem.state", p.GetState(), `"formatting", "formatted", "cloned" or nothing`)
	}
	return f
}
