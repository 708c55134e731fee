package object

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// userKey reads the key in a Secret; nil if there is none under this name. Invalid.
func userKey(secrets volume.Secrets, name string) (*keyring.UserKey, error) {
	text, ok := secrets[name]
	if !ok {
		return nil, nil
	}
	return keyring.ParseUserKey(name, text)
}

// check sees that the key in a Secret, if there is one, is a volume's.
// Precondition; Invalid.
func check(v repository.ObjectVolume, secrets volume.Secrets) error {
	key, err := userKey(secrets, volume.SecretEncryptionKey)
	if err != nil || key == nil || !v.Keys.Encrypted() {
		return err
	}
	if err := v.Keys.Check(key); err != nil {
		previous, e := userKey(secrets, volume.SecretPreviousEncryptionKey)
		if e != nil || previous != nil && v.Keys.Check(previous) == nil {
			return e // it is on its way to the new one
		}
		return err
	}
	return nil
}

// open opens the key ring of a volume with the key or the previous key in a
// Secret. old is nil unless it was the previous one.
func open(v repository.ObjectVolume, secrets volume.Secrets) (k keyring.Keys, user *keyring.UserKey, rotate bool, err error) {
	if user, err = userKey(secrets, volume.SecretEncryptionKey); err != nil {
		return k, nil, false, err
	}
	if user == nil {
		return k, nil, false, fault.New(fault.Precondition, "volume %s is encrypted for user key %s: want the Secret %s", v.ID, v.Keys.Fingerprint, volume.SecretEncryptionKey)
	}
	wrong := v.Keys.Check(user)
	if wrong == nil {
		k, err = v.Keys.Open(user, v.ID)
		return k, user, false, err
	}
	previous, err := userKey(secrets, volume.SecretPreviousEncryptionKey)
	if err != nil || previous == nil {
		return k, nil, false, join(err, wrong)
	}
	if k, err = v.Keys.Open(previous, v.ID); err != nil {
		return k, nil, false, join(wrong, err)
	}
	return k, user, true, nil
}

// keys returns the data keys of a volume: from the caller's Secret, or, without
// one, as this node has them since the volume was opened here with one. A Secret
// that has the previous key as well wraps them for the new one.
func (b *Backend) keys(ctx context.Context, s *site, v repository.ObjectVolume, secrets volume.Secrets) (keyring.Keys, error) {
	if !v.Keys.Encrypted() {
		return keyring.Keys{}, nil
	}
	if _, ok := secrets[volume.SecretEncryptionKey]; !ok {
		if k, err := b.keptKeys(v.ID); err == nil {
			return k, nil
		}
	}
	k, user, rotate, err := open(v, secrets)
	if err != nil || !rotate {
		return k, err
	}
	_, err = s.Repository.ObjectVolumes.Update(ctx, string(v.ID), func(now repository.ObjectVolume) (repository.ObjectVolume, error) {
		if now.Keys.Fingerprint == v.Keys.Fingerprint {
			now.Keys, now.Changed = k.Wrap(user, v.ID), b.now()
		}
		return now, nil
	})
	if err == nil {
		klog.FromContext(ctx).Info("Wrapped a volume's keys for another user key", "volumeID", v.ID, "before", v.Keys.Fingerprint, "now", user.Fingerprint())
	}
	return k, err
}

// engineKeys are a volume's keys as the engine takes them. A volume that is
// encrypted may be cloned from one that is not.
func engineKeys(k keyring.Keys) engine.Keys {
	if k.Own == nil {
		return engine.Keys{}
	}
	return engine.Keys{Write: k.Own, Read: append(append([]*frame.DataKey(nil), k.Sources...), nil)}
}

func (b *Backend) keysFolder() string { return filepath.Join(b.options.RuntimeDir, "keys") }

// inMemory reports whether the folder of the keys is lost with the machine's power.
func (b *Backend) inMemory() bool {
	var st unix.Statfs_t
	err := unix.Statfs(b.keysFolder(), &st)
	return err == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}

// keepKeys keeps the keys of a volume that is open here, for the next process.
func (b *Backend) keepKeys(id volume.ID, k keyring.Keys) error {
	if k.Own == nil || !b.inMemory() {
		return nil
	}
	body, err := json.Marshal(k.Export())
	if err == nil {
		err = writeFile(filepath.Join(b.keysFolder(), string(id)), body)
	}
	return fault.Wrap(err, "keep the keys of volume", string(id))
}

func (b *Backend) keptKeys(id volume.ID) (keyring.Keys, error) {
	var secrets [][]byte
	body, err := os.ReadFile(filepath.Join(b.keysFolder(), string(id)))
	if err == nil {
		err = json.Unmarshal(body, &secrets)
	}
	if err != nil || len(secrets) == 0 {
		return keyring.Keys{}, fault.New(fault.Precondition, "the keys of volume %s are not here: want it staged with its Secret", id)
	}
	return keyring.Import(secrets)
}

func (b *Backend) dropKeys(id volume.ID) error {
	err := os.Remove(filepath.Join(b.keysFolder(), string(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
