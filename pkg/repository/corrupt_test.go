package repository

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
)

// TestDamageIsNeverPassedOver: each row damages a record of five revisions, whose
// newest must then be Corrupt, and never an older one or none.
func TestDamageIsNeverPassedOver(t *testing.T) {
	type table = map[string]func(store *memory.Store, slot func(int) string) error
	rewrite := func(store *memory.Store, slot string, change func([]byte) []byte) error {
		object, err := store.Get(t.Context(), slot)
		if err != nil {
			return err
		}
		return store.Put(t.Context(), slot, change(object))
	}
	for name, damage := range (table{
		"newest empty": func(s *memory.Store, slot func(int) string) error { return s.Put(t.Context(), slot(5), nil) },
		"newest truncated": func(s *memory.Store, slot func(int) string) error {
			return rewrite(s, slot(5), func(o []byte) []byte { return o[:len(o)-10] })
		},
		"newest with bytes behind it": func(s *memory.Store, slot func(int) string) error {
			return rewrite(s, slot(5), func(o []byte) []byte { return append(o, ' ') })
		},
		"newest with a flipped bit": func(s *memory.Store, slot func(int) string) error {
			return rewrite(s, slot(5), func(o []byte) []byte { o[len(o)-20] ^= 1; return o })
		},
		"newest replaced by an older one": func(s *memory.Store, slot func(int) string) error {
			object, err := s.Get(t.Context(), slot(4))
			if err != nil {
				return err
			}
			return s.Put(t.Context(), slot(5), object)
		},
		"predecessor missing": func(s *memory.Store, slot func(int) string) error { return s.Delete(t.Context(), slot(4)) },
		"all but newest missing": func(s *memory.Store, slot func(int) string) error {
			return s.Delete(t.Context(), slot(1), slot(2), slot(3), slot(4))
		},
		"predecessor changed": func(s *memory.Store, slot func(int) string) error {
			return rewrite(s, slot(4), func(o []byte) []byte { o[len(o)-20] ^= 1; return o })
		},
		"stray revision": func(s *memory.Store, slot func(int) string) error { return s.Put(t.Context(), slot(5)+"-copy", nil) },
		"revision 0":     func(s *memory.Store, slot func(int) string) error { return s.Put(t.Context(), slot(0), nil) },
	}) {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			r := openOn(t, store)
			v := newVolume(t, r)
			grow(t, r, v.Value.ID, 5)
			slot := func(n int) string { return fmt.Sprintf("volumes/%s/records/%010d", v.Value.ID, n) }
			must(t, damage(store, slot))
			_, err := r.Volumes.Latest(t.Context(), string(v.Value.ID))
			wantFault(t, "latest", err, fault.Corrupt, string(v.Value.ID))
			_, err = r.Volumes.Update(t.Context(), string(v.Value.ID), increment)
			wantFault(t, "update", err, fault.Corrupt)
			wantFault(t, "remove", r.Volumes.Remove(t.Context(), string(v.Value.ID)), fault.Corrupt)
			_, err = r.Volumes.Append(t.Context(), string(v.Value.ID), Revision[Volume]{}, v.Value)
			wantFault(t, "append a first revision", err, fault.Corrupt)
		})
	}
}

// TestMisplacedRecord: a whole record at another's place is not that other.
func TestMisplacedRecord(t *testing.T) {
	store := memory.New()
	r := openOn(t, store)
	a, b := newVolume(t, r).Value.ID, newVolume(t, r).Value.ID
	object, err := store.Get(t.Context(), "volumes/"+string(a)+"/records/0000000001")
	must(t, err)
	must(t, store.Put(t.Context(), "volumes/"+string(b)+"/records/0000000001", object))
	_, err = r.Volumes.Latest(t.Context(), string(b))
	wantFault(t, "latest", err, fault.Corrupt, string(a), "does not belong")
}

func TestLaterVersionIsUnsupported(t *testing.T) {
	store := memory.New()
	r := openOn(t, store)
	v := newVolume(t, r)
	slot := "volumes/" + string(v.Value.ID) + "/records/0000000001"
	object, err := store.Get(t.Context(), slot)
	must(t, err)
	must(t, store.Put(t.Context(), slot, bytes.Replace(object, []byte("holkas 1 "), []byte("holkas 12 "), 1)))
	_, err = r.Volumes.Latest(t.Context(), string(v.Value.ID))
	wantFault(t, "latest", err, fault.Unsupported, "format version 12")
	_, _, err = r.Volumes.List(t.Context(), "", 0)
	wantFault(t, "list", err, fault.Unsupported, slot)
}
