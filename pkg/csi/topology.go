package csi

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TopologyKey is the key of the one topology segment that a node has: its id.
const TopologyKey = "topology.csi.holkas.io/node"

// accessible is the topology of what is on one node: none, which is everywhere, if its
// class is that of a shared backend.
func accessible(class volume.Class, n volume.NodeID) []*csi.Topology {
	if class.Shared() {
		return nil
	}
	return []*csi.Topology{{Segments: map[string]string{TopologyKey: string(n)}}}
}

// topologyOf reads accessibility requirements. The order of the requisite terms
// means nothing, that of the preferred ones does. Invalid if there are no terms,
// or if a preferred node is not among the requisite ones.
func topologyOf(r *csi.TopologyRequirement) (controller.Topology, error) {
	var t controller.Topology
	if r == nil {
		return t, nil
	}
	if len(r.GetRequisite())+len(r.GetPreferred()) == 0 {
		return t, fault.New(fault.Invalid, "accessibility_requirements: requisite and preferred are empty: want terms in one of them, or no requirements")
	}
	if nodes, any := nodesOf(r.GetRequisite()); len(r.GetRequisite()) > 0 && !any {
		slices.Sort(nodes)
		t.Requisite = append([]volume.NodeID{}, nodes...)
	}
	t.Preferred, _ = nodesOf(r.GetPreferred())
	for _, n := range t.Preferred {
		if t.Requisite != nil && !slices.Contains(t.Requisite, n) {
			return t, fault.New(fault.Invalid, "accessibility_requirements.preferred: node %q is not in requisite: want all preferred terms there too", n)
		}
	}
	return t, nil
}

// placeOf reads the topology for which a capacity is asked.
func placeOf(t *csi.Topology) controller.Topology {
	if t == nil {
		return controller.Topology{}
	}
	nodes, any := nodesOf([]*csi.Topology{t})
	if any {
		return controller.Topology{}
	}
	return controller.Topology{Requisite: append([]volume.NodeID{}, nodes...)}
}

// nodesOf returns the nodes that terms name, each once, and whether one of them
// lets any node in, since it has no segments. A term with a segment that no node
// of ours has, or with a value that is no node id, names none.
func nodesOf(terms []*csi.Topology) (nodes []volume.NodeID, any bool) {
	for _, term := range terms {
		segments := term.GetSegments()
		if len(segments) == 0 {
			any = true
		}
		n, err := volume.ParseNodeID(segments[TopologyKey])
		if err == nil && len(segments) == 1 && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes, any
}
