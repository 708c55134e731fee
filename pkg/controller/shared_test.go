package controller

import (
	"iter"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

const readerMode = repository.MultiNodeReaderOnly

func (w *world) publish(id volume.ID, node volume.NodeID, mode string) (repository.Volume, error) {
	return w.c.Publish(w.t.Context(), PublishRequest{id, repository.Publication{Node: node, AccessMode: mode, ReadOnly: mode == readerMode}})
}

// restored is a request for a volume from a snapshot.
func restored(r CreateVolumeRequest, s volume.Handle) CreateVolumeRequest {
	r.Request.Source.Snapshot = s.String()
	return r
}

// TestASharedVolumeHasNoPlace: the topology limits nothing, its preference counts,
// and a node that is gone takes nothing with it.
func TestASharedVolumeHasNoPlace(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.announce(repository.Node{ID: "n3", Backends: []string{volume.BackendLocal}})
		r := shared("one", mib)
		r.Topology = Topology{Requisite: []volume.NodeID{"n3"}, Preferred: []volume.NodeID{"n3", "n2"}}
		v := w.volume(r)
		if v.Node != "n2" || v.Class.Repository != w.repo.ID() {
			t.Errorf("made %+v, want it at n2, the first preferred node that has the backend, in the home repository", v)
		}
		r.Topology = Topology{Requisite: []volume.NodeID{}}
		if again, err := w.c.CreateVolume(t.Context(), r); err != nil || again.ID != v.ID {
			t.Errorf("again with no place at all: %+v, %v; want the same", again, err)
		}
		s, err := w.c.CreateSnapshot(t.Context(), CreateSnapshotRequest{Name: "snap", Volume: v.ID, Topology: Topology{Requisite: []volume.NodeID{"n3"}}})
		if err != nil || s.Node != "n2" {
			t.Errorf("snapshot %+v, %v; want it cut at n2", s, err)
		}
		if c := w.volume(restored(shared("clone", 0), w.c.Handle(s.ID))); c.Node != "n2" || c.SizeBytes != mib {
			t.Errorf("clone %+v, want it where its source was used last", c)
		}
		w.engines["n2"].down = true
		must(t, Retire(t.Context(), w.repo, "n2", w.c.now()))
		other := w.volume(restored(shared("elsewhere", 0), w.c.Handle(s.ID)))
		if other.Node != "n1" {
			t.Errorf("clone %+v, want it at n1, which answers", other)
		}
		must(t, w.c.DeleteSnapshot(t.Context(), w.c.Handle(s.ID)))
		must(t, w.c.DeleteVolume(t.Context(), v.ID))
		if buried, err := w.repo.Buried(t.Context(), "n2"); err != nil || len(buried) > 0 {
			t.Errorf("buried %v, %v; want nothing: it is deleted already", buried, err)
		}
		w.engines["n1"].down = true
		wantKind(t, w.c.DeleteVolume(t.Context(), other.ID), fault.Transient, "n1")
		w.engines["n2"].down = false
		w.announceAgain("n2")
		must(t, w.c.DeleteVolume(t.Context(), other.ID))
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestTombstonesAreNotForSharedBackends: what a node's own backend is to delete, the
// shared one never hears of.
func TestTombstonesAreNotForSharedBackends(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		for _, sweep := range []bool{false, true} {
			v := w.volume(thick("one", mib))
			must(t, Retire(t.Context(), w.repo, "n1", w.c.now()))
			must(t, w.c.DeleteVolume(t.Context(), v.ID))
			// Back without the disks: the tombstone waits for those.
			must(t, Exhume(t.Context(), w.repo, "n1", map[string]backend.Backend{volume.BackendObject: w.fronts["n1"]}))
			w.announce(repository.Node{ID: "n1", Backends: []string{volume.BackendObject}})
			must(t, w.c.Sweep(t.Context()))
			if buried, err := w.repo.Buried(t.Context(), "n1"); err != nil || len(buried) != 1 {
				t.Errorf("buried %v, %v; want what nobody executed", buried, err)
			}
			if sweep {
				w.announce(repository.Node{ID: "n1"})
				must(t, w.c.Sweep(t.Context()))
			} else {
				w.announceAgain("n1")
			}
			if len(w.engines["n1"].volumeIDs()) > 0 || w.shared.deleted[string(v.ID)] {
				t.Errorf("swept %t: the node has %v, and the shared backend was told to delete: %t", sweep, w.engines["n1"].volumeIDs(), w.shared.deleted[string(v.ID)])
			}
		}
	})
}

// TestASharedIntentGoesOnElsewhere: the node of an intent is gone, and another one
// goes on under the same id.
func TestASharedIntentGoesOnElsewhere(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		r := shared("one", mib)
		r.Topology.Preferred = []volume.NodeID{"n1"}
		p := mortal(4) // it dies when the engine has made the volume
		_, err := w.controller(p).CreateVolume(t.Context(), r)
		intent, stored := w.repo.VolumeNames.Latest(t.Context(), "one")
		if stored != nil || intent.Value.Node != "n1" || len(w.shared.volumeIDs()) != 1 || !p.died() {
			t.Fatalf("intent %+v, %v, volumes %v, died %t: %v", intent.Value, stored, w.shared.volumeIDs(), p.died(), err)
		}
		w.engines["n1"].down = true
		must(t, Retire(t.Context(), w.repo, "n1", w.c.now()))
		v, err := w.c.CreateVolume(t.Context(), r)
		if err != nil || v.Node != "n2" || string(v.ID) != intent.Value.ID {
			t.Errorf("made %+v, %v; want %s by n2", v, err, intent.Value.ID)
		}
		w.engines["n2"].down = true
		_, err = w.c.CreateVolume(t.Context(), shared("two", mib))
		wantKind(t, err, fault.Transient, "n2")
		w.engines["n2"].down = false
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestWhoActsOnASharedVolume: the engine of the node that writes it and no other;
// without one, that of the last node if it answers, or any.
func TestWhoActsOnASharedVolume(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		r := shared("one", mib)
		r.Topology.Preferred = []volume.NodeID{"n1"}
		v := w.volume(r)
		base, target := w.snapshot("base", v.ID), w.snapshot("target", v.ID)
		ctx, round, delay := t.Context(), 0, volume.DefaultUploadDelay
		calls := map[string]func() error{
			"expand": func() error {
				_, err := w.c.ExpandVolume(ctx, v.ID, volume.Range{RequiredBytes: int64(1+round) * mib})
				return err
			},
			"modify": func() error { return w.c.ModifyVolume(ctx, v.ID, volume.Mutable{UploadDelay: &delay}) },
			"health": func() error {
				h, err := w.c.VolumeHealth(ctx, v.ID)
				if err == nil && len(h.Health) > 0 {
					err = fault.New(fault.Transient, "%v", h.Health)
				}
				return err
			},
			"snapshot": func() error {
				s, err := w.c.CreateSnapshot(ctx, CreateSnapshotRequest{Name: "new", Volume: v.ID})
				if err == nil {
					err = w.c.DeleteSnapshot(ctx, w.c.Handle(s.ID))
				}
				return err
			},
			"allocated": func() error {
				_, extents, err := w.c.Allocated(ctx, w.c.Handle(base.ID), 0)
				return drained(extents, err)
			},
			"delta": func() error {
				_, extents, err := w.c.Delta(ctx, w.c.Handle(base.ID), w.c.Handle(target.ID), 0)
				return drained(extents, err)
			},
			"clone": func() error {
				r := shared("clone", 8*mib)
				r.Request.Source.Volume = v.ID
				c, err := w.c.CreateVolume(ctx, r)
				if err == nil && c.Node != w.events.uses()[0] {
					t.Errorf("the clone says %s", c.Node)
				}
				if err == nil {
					err = w.c.DeleteVolume(ctx, c.ID)
				}
				return err
			},
		}
		wantAt := func(when string, want volume.NodeID) {
			t.Helper()
			round++
			for name, call := range calls {
				w.events.uses()
				err := call()
				if want == "" {
					if !fault.Is(err, fault.Transient) {
						t.Errorf("%s: %s: got %v, want Transient", when, name, err)
					}
					continue
				}
				if got := w.events.uses(); err != nil || !slices.Equal(got, []volume.NodeID{want}) {
					t.Errorf("%s: %s: done by %v, %v; want %s alone", when, name, got, err, want)
				}
			}
		}
		wantAt("not published", "n1")
		w.engines["n1"].down = true
		wantAt("not published, its node down", "n2")
		if v, err := w.publish(v.ID, "n3", "SINGLE_NODE_WRITER"); err != nil || v.Node != "n3" {
			t.Fatalf("published %+v, %v; want n3 remembered", v, err)
		}
		wantAt("written by n3", "n3")
		w.engines["n3"].down = true
		wantAt("written by n3, which is down", "")
		must(t, w.c.Unpublish(ctx, v.ID, "n3"))
		wantAt("not any more", "n2")
		w.engines["n3"].down = false
		wantAt("and n3 is back", "n3")
		_, err := w.publish(v.ID, "n1", readerMode)
		must(t, err)
		wantAt("read by n1, which is down", "n2")
		must(t, w.c.Unpublish(ctx, v.ID, ""))
		w.engines["n1"].down = false
		w.sweepAll()
		w.clean("in the end")
	})
}

func drained(extents iter.Seq2[backend.Extent, error], err error) error {
	if err != nil {
		return err
	}
	for _, err := range extents {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestPublishShared: to readers on any number of nodes, or else to one node.
func TestPublishShared(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.announce(repository.Node{ID: "n3", Backends: []string{volume.BackendLocal}})
		v := w.volume(shared("one", mib))
		_, err := w.publish(v.ID, "n3", readerMode)
		wantKind(t, err, fault.Precondition, `"n3"`, `no backend "object"`)
		for _, node := range []volume.NodeID{"n1", "n2", "n1"} {
			got, err := w.publish(v.ID, node, readerMode)
			must(t, err)
			v = got
		}
		if len(v.Publications) != 2 || v.Node != "n2" {
			t.Errorf("published %+v, want two readers, and n2 remembered", v)
		}
		_, err = w.publish(v.ID, "n2", "SINGLE_NODE_WRITER")
		wantKind(t, err, fault.Exists, readerMode)
		must(t, w.c.Unpublish(t.Context(), v.ID, "n2"))
		for _, mode := range []string{"SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY"} {
			_, err = w.publish(v.ID, "n2", mode)
			wantKind(t, err, fault.InUse, `node "n1"`, mode)
		}
		wantKind(t, w.c.DeleteVolume(t.Context(), v.ID), fault.InUse, `node "n1"`)
		must(t, w.c.Unpublish(t.Context(), v.ID, "n1"))
		for i, node := range []volume.NodeID{"n1", "n2"} { // it moves
			_, err = w.publish(v.ID, node, "SINGLE_NODE_WRITER")
			must(t, err)
			other := []volume.NodeID{"n2", "n1"}[i]
			for _, mode := range []string{"SINGLE_NODE_WRITER", readerMode} {
				_, err = w.publish(v.ID, other, mode)
				wantKind(t, err, fault.InUse, string(node), string(other))
			}
			must(t, w.c.Unpublish(t.Context(), v.ID, node))
		}
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestAVolumeForReadersAlone is never published for writing, does not grow, and is
// not the volume of a retry that wants to write.
func TestAVolumeForReadersAlone(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		s := w.snapshot("snap", w.volume(shared("origin", mib)).ID)
		r := restored(shared("readers", 0), w.c.Handle(s.ID))
		r.Request.ReadOnly = true
		v := w.volume(r)
		if got := w.fronts[v.Node].created; !got.ReadOnly || got.ID != v.ID {
			t.Errorf("the backend was asked for %+v, want it read-only", got)
		}
		raw := r
		raw.Name, raw.Block = "raw", true
		if got := w.fronts[w.volume(raw).Node].created; got.ReadOnly {
			t.Errorf("the backend was asked for %+v, want nothing in it touched", got)
		}
		got, err := w.publish(v.ID, "n1", "SINGLE_NODE_WRITER")
		if err != nil || !got.Publications[0].ReadOnly {
			t.Errorf("published %+v, %v; want it read-only", got.Publications, err)
		}
		if again, err := w.publish(v.ID, "n1", "SINGLE_NODE_WRITER"); err != nil || len(again.Publications) != 1 {
			t.Errorf("again: %+v, %v", again.Publications, err)
		}
		_, err = w.c.ExpandVolume(t.Context(), v.ID, volume.Range{RequiredBytes: 2 * mib})
		wantKind(t, err, fault.Precondition, "readers")
		r.Request.ReadOnly = false
		_, err = w.c.CreateVolume(t.Context(), r)
		wantKind(t, err, fault.Exists, "volume_capabilities", readerMode)
	})
}

func TestWhatASharedVolumeCannotBe(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		of := w.snapshot("local", w.volume(thick("origin", mib)).ID)
		_, err := w.c.CreateVolume(t.Context(), restored(shared("one", 0), w.c.Handle(of.ID)))
		wantKind(t, err, fault.Invalid, string(of.ID), `backend "local"`, `has "object"`)
		r := shared("one", mib)
		r.Class.Repository = volume.NewRepositoryID()
		_, err = w.c.CreateVolume(t.Context(), r)
		wantKind(t, err, fault.Invalid, string(w.repo.ID()), "repository")
		_, err = w.c.CreateVolume(t.Context(), shared("one", volume.MaximumObjectBytes+1))
		wantKind(t, err, fault.OutOfRange, "70368744177664")
		v := w.volume(shared("one", volume.MaximumObjectBytes))
		_, err = w.c.ExpandVolume(t.Context(), v.ID, volume.Range{RequiredBytes: volume.MaximumObjectBytes + 1})
		wantKind(t, err, fault.OutOfRange, "70368744177664")
		provisioning := volume.Thin
		wantKind(t, w.c.ModifyVolume(t.Context(), v.ID, volume.Mutable{Provisioning: &provisioning}), fault.Invalid, `"object"`)
		cache := volume.CacheFull
		must(t, w.c.ModifyVolume(t.Context(), v.ID, volume.Mutable{CacheBytes: &cache}))
		if v, err := w.c.Volume(t.Context(), v.ID); err != nil || v.Class.CacheBytes != cache {
			t.Errorf("modified: %+v, %v", v.Class, err)
		}
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestSharedCapacity is the largest number everywhere, as long as a node has the
// backend.
func TestSharedCapacity(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		class := shared("", 0).Class
		for _, nodes := range [][]volume.NodeID{nil, {}, {"n1"}, {"n9"}} {
			got, err := w.c.Capacity(t.Context(), class, Topology{Requisite: nodes})
			if want := (backend.Capacity{AvailableBytes: math.MaxInt64, MaximumVolumeBytes: 64 << 40}); err != nil || got != want {
				t.Errorf("in %v: %+v, %v; want %+v", nodes, got, err, want)
			}
		}
		other := class
		other.Repository = volume.NewRepositoryID()
		if got, err := w.c.Capacity(t.Context(), other, Topology{}); err != nil || got != (backend.Capacity{}) {
			t.Errorf("of another repository: %+v, %v; want none", got, err)
		}
		w.announce(repository.Node{ID: "n1", Backends: []string{volume.BackendLocal}})
		if got, err := w.c.Capacity(t.Context(), class, Topology{}); err != nil || got != (backend.Capacity{}) {
			t.Errorf("of no node: %+v, %v; want none", got, err)
		}
	})
}

// TestAGroupOfBothBackends is one cut; and none, if a shared member was published
// while it was made, since nothing kept the new node from writing.
func TestAGroupOfBothBackends(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		for _, r := range []CreateVolumeRequest{thick("pinned", mib), shared("shared", mib), shared("other", mib)} {
			r.Topology.Preferred = []volume.NodeID{"n1"}
			v := w.volume(r)
			if r.Name == "other" { // its pause is at another node
				_, err := w.publish(v.ID, "n2", "SINGLE_NODE_WRITER")
				must(t, err)
			}
		}
		var moved volume.ID
		for _, v := range mustPage(w) {
			if v.Name == "shared" {
				moved = v.ID
			}
		}
		w.fronts["n1"].cutting = func() {
			_, err := w.publish(moved, "n2", "SINGLE_NODE_WRITER")
			must(t, err)
		}
		_, _, err := w.c.CreateGroup(t.Context(), group(w))
		wantKind(t, err, fault.Transient, string(moved))
		w.fronts["n1"].cutting = nil
		if len(w.shared.snapshotIDs())+len(w.engines["n1"].snapshotIDs()) > 0 {
			t.Errorf("cuts are left: %v, %v", w.shared.snapshotIDs(), w.engines["n1"].snapshotIDs())
		}
		must(t, w.c.Unpublish(t.Context(), moved, ""))
		must(t, w.c.Sweep(t.Context()))
		g, members, err := w.c.CreateGroup(t.Context(), group(w))
		must(t, err)
		at := map[string]volume.NodeID{}
		for _, m := range members {
			v, err := w.c.Volume(t.Context(), m.Volume)
			must(t, err)
			at[v.Name] = m.Node
		}
		if at["pinned"] != "n1" || at["shared"] != "n2" || at["other"] != "n2" {
			t.Errorf("cut at %v, want each where it was used last", at)
		}
		must(t, w.c.DeleteGroup(t.Context(), w.c.GroupHandle(g.ID), nil))
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestCheckKey: the key that an encrypted snapshot's volume is wrapped for, or, on
// the way to another one, both.
func TestCheckKey(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		r := shared("one", mib)
		r.Class.Encryption = volume.AES256GCM
		v := w.volume(r)
		s := w.snapshot("snap", v.ID)
		plain := w.snapshot("plain", w.volume(shared("two", mib)).ID)
		key := func(digit string) string { return strings.Repeat(digit, 64) }
		check := func(s repository.Snapshot, keys ...string) error {
			secrets := volume.Secrets{}
			for i, name := range []string{"encryptionKey", "previousEncryptionKey"}[:len(keys)] {
				secrets[name] = keys[i]
			}
			return w.c.CheckKey(t.Context(), s, secrets)
		}
		wantKind(t, check(s, key("1")), fault.Corrupt, string(v.ID))
		user, err := keyring.ParseUserKey("test", key("1"))
		must(t, err)
		_, err = w.repo.ObjectVolumes.Append(t.Context(), string(v.ID), repository.Revision[repository.ObjectVolume]{}, repository.ObjectVolume{
			ID: v.ID, State: repository.Ended, Keys: keyring.Ring{Fingerprint: user.Fingerprint()}, // ended: the snapshot outlives it
		})
		must(t, err)
		for _, err := range []error{check(s), check(s, key("1")), check(s, key("2"), key("1")), check(plain, key("2"))} {
			must(t, err)
		}
		other, err := keyring.ParseUserKey("test", key("2"))
		must(t, err)
		wantKind(t, check(s, key("2")), fault.Precondition, string(user.Fingerprint()), string(other.Fingerprint()), string(s.ID))
		wantKind(t, check(s, key("2"), key("3")), fault.Precondition, string(user.Fingerprint()))
		wantKind(t, check(s, "hunter2"), fault.Invalid, "encryptionKey")
		wantKind(t, check(s, key("2"), "hunter2"), fault.Invalid, "previousEncryptionKey")
	})
}
