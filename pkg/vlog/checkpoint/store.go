package checkpoint

import (
	"bytes"
	"context"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
)

// Reader reads checkpoints of a log.
type Reader struct {
	Store objstore.Store
	Log   vlog.LogID
	// Codec and Key verify who wrote; a nil Codec is for those that have no key.
	Codec *frame.Codec
	Key   *frame.DataKey
}

// Read is a checkpoint as it was read.
type Read struct {
	*Checkpoint
	Digest vlog.Digest
	// Base is the checkpoint that it adds to, nil if it stands alone. It must be
	// kept while this one is.
	Base *Base
}

// At reads the checkpoint of a position, and the one that it adds to. NotFound;
// Corrupt; Unsupported; Precondition for another key.
func (r Reader) At(ctx context.Context, at vlog.Position) (Read, error) {
	p, err := r.part(ctx, at)
	if err != nil {
		return Read{}, err
	}
	if p.base == (Base{}) {
		c, err := p.resolve(nil)
		return Read{c, p.digest, nil}, err
	}
	base, err := r.part(ctx, p.base.Position)
	switch {
	case fault.Is(err, fault.NotFound):
		return Read{}, fault.New(fault.Corrupt, "%s adds to %s: %w", p.Key(), p.base.Position, err)
	case err != nil:
		return Read{}, err
	case base.digest != p.base.Digest || base.base != (Base{}):
		return Read{}, fault.New(fault.Corrupt, "%s adds to %s: got digest %s, standing alone %v: want %s, standing alone", p.Key(), p.base.Position, base.digest, base.base == (Base{}), p.base.Digest)
	}
	b := p.base
	c, err := p.resolve(base)
	return Read{c, p.digest, &b}, err
}

func (r Reader) part(ctx context.Context, at vlog.Position) (*part, error) {
	key := vlog.Keys{Log: r.Log}.Checkpoint(at)
	object, err := r.Store.Get(ctx, key)
	if err != nil {
		return nil, fault.Wrap(err, "read checkpoint", key)
	}
	p, err := decode(object, r.Log, at)
	if err == nil {
		err = p.checkKey(r.Codec, r.Key)
	}
	return p, err
}

// Newest reads the newest checkpoint. NotFound if the log has none. One that is
// deleted while it is read is looked for again: there is a newer one then.
func (r Reader) Newest(ctx context.Context) (Read, error) {
	for {
		at, err := r.newest(ctx)
		if err != nil {
			return Read{}, err
		}
		c, err := r.At(ctx, at)
		if !fault.Is(err, fault.NotFound) {
			return c, err
		}
		if again, e := r.newest(ctx); e != nil || again == at {
			return Read{}, err
		}
	}
}

func (r Reader) newest(ctx context.Context) (at vlog.Position, err error) {
	keys := vlog.Keys{Log: r.Log}
	o := objstore.ListOptions{Prefix: keys.Folder(vlog.CheckpointKind)}
	for {
		page, err := r.Store.List(ctx, o)
		if err != nil {
			return at, fault.Wrap(err, "list", o.Prefix)
		}
		if n := len(page.Objects); n > 0 {
			if at, err = keys.ParseObject(vlog.CheckpointKind, page.Objects[n-1].Key); err != nil {
				return at, err
			}
		}
		if page.Next == "" {
			break
		}
		o.After = page.Next
	}
	if at == (vlog.Position{}) {
		return at, fault.New(fault.NotFound, "%s: no checkpoint", o.Prefix)
	}
	return at, nil
}

// Publish stores a checkpoint. When it returns nil these bytes are durable, by
// this call or an earlier one whose reply was lost. Exists if the position has
// another one: what that no longer needs is not what this one no longer needs,
// so the caller goes on to a later position.
func Publish(ctx context.Context, store objstore.Store, e Encoded) error {
	err := store.Create(ctx, e.Key, e.Object)
	if !fault.Is(err, fault.Exists) {
		return fault.Wrap(err, "publish", e.Key)
	}
	for range 2 { // it may be the reply that is spoiled
		there, e2 := store.Get(ctx, e.Key)
		switch {
		case e2 != nil:
			return fault.Wrap(e2, "publish", e.Key)
		case bytes.Equal(there, e.Object):
			return nil
		}
	}
	return fault.Wrap(err, "publish", e.Key)
}
