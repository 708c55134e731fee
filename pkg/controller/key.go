package controller

import (
	"context"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CheckKey implements Service. The keys of a snapshot are its volume's, which the
// repository keeps as long as anything depends on them, so no engine is asked.
func (c *Controller) CheckKey(ctx context.Context, s repository.Snapshot, secrets volume.Secrets) error {
	if s.Class.Encryption != volume.AES256GCM || secrets[volume.SecretEncryptionKey] == "" {
		return nil
	}
	key, err := keyring.ParseUserKey(volume.SecretEncryptionKey, secrets[volume.SecretEncryptionKey])
	if err != nil {
		return err
	}
	v, err := c.repository.ObjectVolumes.Latest(ctx, string(s.Volume))
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Corrupt, "the record with its keys is missing: %w", err)
	}
	if err == nil {
		err = v.Value.Keys.Check(key)
	}
	if !fault.Is(err, fault.Precondition) {
		return fault.Wrap(err, "look up the keys of volume", string(s.Volume))
	}
	previous, given := secrets[volume.SecretPreviousEncryptionKey]
	if !given {
		return fault.Wrap(err, "snapshot", string(s.ID))
	}
	before, wrong := keyring.ParseUserKey(volume.SecretPreviousEncryptionKey, previous)
	if wrong == nil && v.Value.Keys.Check(before) != nil {
		wrong = err
	}
	return fault.Wrap(wrong, "snapshot", string(s.ID)) // nil: the keys are on their way to the new one
}
