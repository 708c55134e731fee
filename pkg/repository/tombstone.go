package repository

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/volume"
)

const tombstoneKind kind = "tombstone"

// tombstones are objects of their own, made once and deleted once.
type tombstones struct {
	store objstore.Store
	now   func() time.Time
}

// Bury leaves a tombstone for a retired node. One that is there is success.
// Invalid unless it names a node and either a volume or a snapshot.
func (r *Repository) Bury(ctx context.Context, t Tombstone) error {
	return fault.Wrap(r.tombstones.create(ctx, t), "write tombstone", t.subject())
}

// Buried returns a node's tombstones, in ascending order of their ids.
func (r *Repository) Buried(ctx context.Context, node volume.NodeID) ([]Tombstone, error) {
	found, err := r.tombstones.list(ctx, node)
	return found, fault.Wrap(err, "list tombstones", string(node))
}

// Exhume removes a tombstone that was executed. An absent one is success.
func (r *Repository) Exhume(ctx context.Context, t Tombstone) error {
	key, err := t.key()
	if err == nil {
		err = r.tombstones.store.Delete(ctx, key)
	}
	return fault.Wrap(err, "remove tombstone", t.subject())
}

func (t Tombstone) subject() string {
	return string(t.Node) + "/" + string(t.Volume) + string(t.Snapshot)
}

func (t Tombstone) key() (string, error) {
	if _, err := volume.ParseNodeID(string(t.Node)); err != nil {
		return "", err
	}
	_, volumeErr := volume.ParseID(string(t.Volume))
	_, snapshotErr := volume.ParseSnapshotID(string(t.Snapshot))
	if !(volumeErr == nil && t.Snapshot == "") && !(snapshotErr == nil && t.Volume == "") {
		return "", fault.New(fault.Invalid, "volume %.80q, snapshot %.80q: want the id of one", t.Volume, t.Snapshot)
	}
	return "retired/" + t.subject(), nil
}

func (s tombstones) create(ctx context.Context, t Tombstone) error {
	key, err := t.key()
	if err != nil {
		return err
	}
	value, err := encodeValue(t)
	if err != nil {
		return err
	}
	object, err := encode(tombstoneKind, envelope{Subject: t.subject(), Revision: 1, Nonce: newNonce(), Written: s.now(), Value: value})
	if err != nil {
		return err
	}
	if err := s.store.Create(ctx, key, object); !fault.Is(err, fault.Exists) {
		return err
	}
	return nil
}

func (s tombstones) list(ctx context.Context, node volume.NodeID) (found []Tombstone, err error) {
	if _, err := volume.ParseNodeID(string(node)); err != nil {
		return nil, err
	}
	o := objstore.ListOptions{Prefix: "retired/" + string(node) + "/"}
	for {
		page, err := s.store.List(ctx, o)
		if err != nil {
			return nil, err
		}
		for _, object := range page.Objects {
			t, err := s.read(ctx, object.Key)
			switch {
			case err == nil:
				found = append(found, t)
			case !fault.Is(err, fault.NotFound): // else it was executed meanwhile
				return nil, fault.Wrap(err, "object", object.Key)
			}
		}
		if o.After = page.Next; o.After == "" {
			return found, nil
		}
	}
}

func (s tombstones) read(ctx context.Context, key string) (Tombstone, error) {
	object, err := s.store.Get(ctx, key)
	if err != nil {
		return Tombstone{}, err
	}
	e, err := decode(tombstoneKind, object)
	if err != nil {
		return Tombstone{}, err
	}
	var t Tombstone
	if err := json.Unmarshal(e.Value, &t); err != nil {
		return Tombstone{}, fault.New(fault.Corrupt, "value: %w", err)
	}
	if got, err := t.key(); err != nil || got != key || e.Subject != strings.TrimPrefix(key, "retired/") {
		return Tombstone{}, fault.New(fault.Corrupt, "tombstone of %s: it does not belong here", t.subject())
	}
	return t, nil
}
