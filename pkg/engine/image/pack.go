package image

import (
	"context"
	"sync"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/page"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// tableBytes is how long a tables/ object gets, about, and abreast how many are
// stored at the same time.
const (
	tableBytes = 4 << 20
	abreast    = 2
)

// packing packs pages into tables/ objects and stores them. Where a page is is known
// before it is stored, so that the last object of the leaves and the first of the
// directories, which name them, are under way together: one journey, not two.
type packing struct {
	m     *Image
	w     Writer
	x     *page.Writer
	ready []packed // complete, and not stored
}

type packed struct {
	page.Finished
	number uint32
}

// storePages stores the pages that changed.
func (m *Image) storePages(ctx context.Context, w Writer) error {
	p := &packing{m: m, w: w}
	add := func(at table.Page, words *table.Words) error { return p.add(ctx, at, words) }
	if err := m.table.Changed(ctx, add); err != nil {
		return err
	}
	if err := p.finish(); err != nil {
		return err
	}
	placed := map[table.Page]vlog.Pointer{}
	for _, f := range p.ready {
		for _, at := range f.Placed {
			placed[at.Page] = at.Pointer(f.number)
		}
	}
	if err := m.table.ChangedDirectories(placed, add); err != nil {
		return err
	}
	if err := p.finish(); err != nil {
		return err
	}
	return p.store(ctx)
}

// add packs a page.
func (p *packing) add(ctx context.Context, at table.Page, words *table.Words) error {
	if p.x != nil && (p.x.Full() || p.x.Bytes() >= tableBytes) {
		if err := p.finish(); err != nil {
			return err
		}
	}
	if p.x == nil {
		if len(p.ready) == abreast {
			if err := p.store(ctx); err != nil {
				return err
			}
		}
		cipher, err := p.m.Cipher(vlog.TableKind, p.w.Reign, p.w.KeyID)
		if err != nil {
			return err
		}
		if p.x, err = page.NewWriter(cipher, p.m.nextTable, p.w.With, nil); err != nil {
			return err
		}
		p.m.nextTable++
	}
	return p.x.Add(at, words)
}

// finish completes the object that is packed, and gives it a number.
func (p *packing) finish() error {
	if p.x == nil {
		return nil
	}
	f, err := p.x.Finish()
	p.x = nil
	if err != nil {
		return err
	}
	cipher, err := p.m.Cipher(vlog.TableKind, p.w.Reign, p.w.KeyID)
	if err != nil {
		return err
	}
	at, err := vlog.Keys{Log: p.w.Reign.Log}.ParseObject(vlog.TableKind, f.Key)
	if err != nil {
		return err
	}
	n, err := p.m.add(object{Object: checkpoint.Object{
		Kind: vlog.TableKind, Reign: checkpoint.Reign{Reign: p.w.Reign, KeyID: p.w.KeyID}, Sequence: at.Sequence,
		SizeBytes: int64(len(f.Object)), Digest: f.Digest,
	}, cipher: cipher})
	if err == nil {
		p.ready = append(p.ready, packed{f, n})
	}
	return err
}

// store stores what is complete, and tells the table where its pages are: in order,
// and nothing behind an object that was not stored, since directories name leaves.
// The number of one of which the table is not told is given back by the checkpoint
// that follows.
func (p *packing) store(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(p.ready))
	for i, f := range p.ready {
		wg.Go(func() { errs[i] = p.w.Store(ctx, f.Key, f.Object) })
	}
	wg.Wait()
	ready := p.ready
	p.ready = nil
	for i, f := range ready {
		if errs[i] != nil {
			return fault.Wrap(errs[i], "store", f.Key)
		}
		for _, at := range f.Placed {
			p.m.table.Stored(at.Page, at.Pointer(f.number))
		}
		if o, err := p.m.object(f.number); err == nil && p.m.o.Cache != nil {
			p.m.o.Cache.Put(o.cached(), 0, f.Object)
		}
	}
	return nil
}
