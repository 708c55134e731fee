package object

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// cutSource cuts the snapshot for a clone of another volume. One that failed for
// good is replaced, in the intent first.
func (c *creation) cutSource(ctx context.Context) error {
	for {
		id := c.record.Value.Origin.Snapshot
		_, err := c.b.cutLocked(ctx, c.site, backend.CreateSnapshotRequest{
			ID: id, Volume: c.r.Source.Volume, Consistency: volume.FilesystemConsistent, Secrets: c.r.Secrets,
		}, nil)
		if !fault.Is(err, fault.Fenced) && !isFailed(err) {
			return err
		}
		v := c.record.Value
		v.Origin.Snapshot, v.Origin.Nonce, v.Changed = volume.NewSnapshotID(), vlog.NewNonce().String(), c.b.now()
		next, err := c.Repository.ObjectVolumes.Append(ctx, string(v.ID), c.record, v)
		if err != nil {
			return err
		}
		c.record = next
		if err := c.b.deleteSnapshot(ctx, c.site, id); err != nil {
			return err
		}
	}
}

// source claims what the volume starts from, looks at it, and opens its keys.
func (c *creation) source(ctx context.Context) (keyring.Keys, error) {
	v := c.record.Value
	if v.Origin.Snapshot == "" {
		return keyring.Keys{}, nil
	}
	of, err := originClaim(v, "volume "+string(v.ID))
	if err != nil {
		return keyring.Keys{}, err
	}
	err = c.claims.Take(ctx, of, func(ctx context.Context) error {
		r, err := c.snapshot(ctx, v.Origin.Snapshot)
		c.origin = r.Value
		return err
	})
	if err != nil {
		return keyring.Keys{}, err
	}
	crashpoint.Here("object: origin claimed")
	if size := int64(c.origin.Blocks) * vlog.BlockSize; v.SizeBytes < size {
		return keyring.Keys{}, fault.New(fault.OutOfRange, "size: %d bytes: want at least the %d of its source", v.SizeBytes, size)
	}
	return c.sourceKeys(ctx)
}

// sourceKeys opens the keys of an encrypted source: its clone reads with them, and
// must be encrypted as well.
func (c *creation) sourceKeys(ctx context.Context) (keyring.Keys, error) {
	if len(c.origin.KeyIDs) == 0 {
		return keyring.Keys{}, nil
	}
	if c.r.Class.Encryption != volume.AES256GCM {
		return keyring.Keys{}, fault.New(fault.Invalid, "parameter %s: %q: want %q: its source is encrypted", volume.ParamEncryption, c.r.Class.Encryption, volume.AES256GCM)
	}
	r, err := c.Repository.ObjectVolumes.Latest(ctx, string(c.origin.Volume)) // deleted or not
	if fault.Is(err, fault.NotFound) {
		err = fault.As(fault.Corrupt, err)
	}
	if err != nil {
		return keyring.Keys{}, err
	}
	k, _, _, err := open(r.Value, c.r.Secrets)
	return k, err
}

// ready is the record of the volume when it is there.
func (c *creation) ready(source keyring.Keys) (repository.ObjectVolume, error) {
	v := c.record.Value
	v.State, v.Changed = repository.Ready, c.b.now()
	v.Files = cloned(c.origin.Files)
	if v.Class.Encryption != volume.AES256GCM {
		return v, nil
	}
	user, err := userKey(c.r.Secrets, volume.SecretEncryptionKey)
	if err != nil {
		return v, err
	}
	if user == nil {
		return v, fault.New(fault.Invalid, "parameter %s: %q: want the Secret %s, named by csi.storage.k8s.io/provisioner-secret-name", volume.ParamEncryption, v.Class.Encryption, volume.SecretEncryptionKey)
	}
	k, err := keyring.New(source)
	if err == nil {
		v.Keys = k.Wrap(user, v.ID)
	}
	return v, err
}

// cloned is the filesystem state of a volume that is made from one in state f.
func cloned(f backend.Filesystem) backend.Filesystem {
	if f.State == backend.Formatted {
		f.State = backend.Cloned
	}
	return f
}
