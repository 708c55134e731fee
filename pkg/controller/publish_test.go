package controller

import (
	"reflect"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestWhoMayPublish: a volume is published to one node, that of its data, in one
// mode at a time.
func TestWhoMayPublish(t *testing.T) {
	modes := []string{
		"SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY", "SINGLE_NODE_SINGLE_WRITER", "SINGLE_NODE_MULTI_WRITER",
	}
	for _, mode := range modes {
		inWorld(t, 2, func(t *testing.T, w *world) {
			r := thick("one", mib)
			r.Topology.Requisite = []volume.NodeID{"n1"}
			v := w.volume(r)
			publish := func(p repository.Publication) (repository.Volume, error) {
				return w.c.Publish(t.Context(), PublishRequest{v.ID, p})
			}
			here := repository.Publication{Node: "n1", AccessMode: mode}
			elsewhere := repository.Publication{Node: "n2", AccessMode: mode}

			_, err := publish(elsewhere)
			wantKind(t, err, fault.Precondition, `"n2"`, `"n1"`)
			_, err = publish(repository.Publication{Node: "n1", AccessMode: repository.MultiNodeReaderOnly, ReadOnly: true})
			wantKind(t, err, fault.Invalid, "SINGLE_NODE mode")
			first, err := publish(here)
			must(t, err)
			if again, err := publish(here); err != nil || !reflect.DeepEqual(again, first) {
				t.Errorf("%s: again: %+v, %v; want the first reply %+v", mode, again, err, first)
			}
			_, err = publish(elsewhere)
			wantKind(t, err, fault.InUse, `published to node "n1"`)
			_, err = publish(repository.Publication{Node: "n1", AccessMode: mode, ReadOnly: true})
			wantKind(t, err, fault.Exists, "readonly false", mode)
			_, err = publish(repository.Publication{Node: "n1", AccessMode: "MULTI_NODE_MULTI_WRITER"})
			wantKind(t, err, fault.Exists, mode)
			wantKind(t, w.c.DeleteVolume(t.Context(), v.ID), fault.InUse, `node "n1"`)

			must(t, w.c.Unpublish(t.Context(), v.ID, "n2")) // where it is not
			wantKind(t, w.c.DeleteVolume(t.Context(), v.ID), fault.InUse)
			for range 2 {
				must(t, w.c.Unpublish(t.Context(), v.ID, "n1"))
			}
			_, err = publish(repository.Publication{Node: "n1", AccessMode: mode, ReadOnly: true})
			must(t, err)
			must(t, w.c.Unpublish(t.Context(), v.ID, "")) // from wherever it is
			must(t, w.c.DeleteVolume(t.Context(), v.ID))
			_, err = publish(here)
			wantKind(t, err, fault.NotFound, string(v.ID))
			must(t, w.c.Unpublish(t.Context(), v.ID, "n1"))
		})
	}
}

func TestPublishToNodes(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.announce(repository.Node{ID: "n1", MaxVolumes: 2})
		var all []repository.Volume
		publish := func(v repository.Volume) error {
			_, err := w.c.Publish(t.Context(), PublishRequest{v.ID, repository.Publication{Node: "n1", AccessMode: "SINGLE_NODE_WRITER"}})
			return err
		}
		for _, name := range []string{"a", "b", "c"} {
			all = append(all, w.volume(thick(name, mib)))
		}
		_, err := w.c.Publish(t.Context(), PublishRequest{all[0].ID, repository.Publication{Node: "nowhere"}})
		wantKind(t, err, fault.NotFound, "nowhere")
		must(t, publish(all[0]))
		must(t, publish(all[1]))
		wantKind(t, publish(all[2]), fault.Exhausted, "2 other volumes published and can have 2")
		if v, err := w.c.Volume(t.Context(), all[2].ID); err != nil || len(v.Publications) > 0 {
			t.Errorf("its place was not given back: %+v, %v", v.Publications, err)
		}
		must(t, publish(all[1]))

		// The operator's word ends new publications, and none that there is.
		must(t, Retire(t.Context(), w.repo, "n1", w.c.now()))
		must(t, publish(all[1]))
		must(t, w.c.Unpublish(t.Context(), all[0].ID, "n1"))
		wantKind(t, publish(all[2]), fault.Precondition, "retired")
		w.announce(repository.Node{ID: "n1", MaxVolumes: 2})
		must(t, publish(all[2]))
	})
}
