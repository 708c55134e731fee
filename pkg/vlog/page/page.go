package page

import (
	"context"
	"encoding/binary"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// transpose appends a page as it is sealed.
func transpose(b []byte, words *table.Words) []byte {
	for shift := 0; shift < 64; shift += 8 {
		for _, w := range words {
			b = append(b, byte(w>>shift))
		}
	}
	return b
}

// restore is the reverse of transpose.
func restore(words *table.Words, b []byte) {
	for i := range words {
		var w uint64
		for plane := range 8 {
			w |= uint64(b[plane*table.Fanout+i]) << (8 * plane)
		}
		words[i] = vlog.Pointer(w)
	}
}

// Found is where an object of a table's list is.
type Found struct {
	Store    objstore.Store
	Cipher   *frame.Cipher // of the object's reign and of vlog.TableKind
	Sequence vlog.Sequence
}

// Pager loads pages by the numbers of an object list. It implements table.Pager.
type Pager struct {
	// Find returns where an object is. Corrupt if the list has no table of this
	// number.
	Find func(object uint32) (Found, error)
}

var _ table.Pager = Pager{}

// Load gets a page by one ranged read and verifies it.
func (l Pager) Load(ctx context.Context, p table.Page, at vlog.Pointer, words *table.Words) error {
	f, err := l.Find(at.Object())
	if err != nil {
		return err
	}
	if f.Cipher.Kind() != vlog.TableKind {
		return fault.New(fault.Corrupt, "page %d at %s: object is of kind %s: want a table", p, at, f.Cipher.Kind())
	}
	b, err := f.Cipher.Read(ctx, f.Store, f.Sequence, at, uint64(p), nil)
	if err != nil {
		return err
	}
	restore(words, b[at.Index()*table.LeafBytes:])
	return nil
}

// identity is what head and foot begin with.
type identity struct {
	reign    frame.Reign
	sequence vlog.Sequence
}

func (id identity) append(b []byte) []byte {
	b = append(b, id.reign.Log[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(id.reign.Epoch))
	b = append(b, id.reign.Nonce[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(id.sequence))
}

func (id identity) key() string {
	return vlog.Keys{Log: id.reign.Log}.Object(vlog.TableKind, vlog.Position{Epoch: id.reign.Epoch, Sequence: id.sequence})
}

func (id identity) head() []byte {
	return headFormat.Append(nil, append(id.append(nil), make([]byte, 8)...))
}
