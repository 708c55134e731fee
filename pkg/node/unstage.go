package node

import (
	"context"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Unstage writes out and unmounts what is staged, and detaches the device. What
// is not staged, or unknown to the engine, is success. InUse while it is
// published or a process uses it. A write that the device refused is reported, and
// the volume stays, unless the engine knows that it takes no more.
func (n *Node) Unstage(ctx context.Context, id volume.ID, stagingPath string) error {
	return n.exclusively(ctx, "unstage", id, stagingPath, func(ctx context.Context) error { return n.unstage(ctx, id, stagingPath) })
}

func (n *Node) unstage(ctx context.Context, id volume.ID, stagingPath string) error {
	at, err := n.tree.find("staging_target_path", stagingPath)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	gone := err != nil
	if !gone {
		defer at.Close()
	}
	v, err := n.volume(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := n.unpublished(v, stagingPath); err != nil {
		return err
	}
	if !gone {
		if err := n.unmountStaged(ctx, id, at, v); err != nil {
			return err
		}
		n.here("node: unmounted")
	}
	// Without a device, too: one may have gone while what it had is not yet where it
	// belongs, and then it is not unstaged before that is.
	return n.detach(ctx, id)
}

// unpublished reports a volume that is still mounted below the kubelet's
// directory anywhere but at its staging path.
func (n *Node) unpublished(v backend.Volume, stagingPath string) error {
	if v.Device == "" {
		return nil
	}
	others, err := n.targets(v.Device, stagingPath)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return fault.New(fault.InUse, "staging_target_path: the volume is still published at %s: unpublish it first", others.points())
	}
	return nil
}

// targets returns the mounts of a device below the kubelet's directory at other
// paths than the excepted ones.
func (n *Node) targets(device string, except ...string) (table, error) {
	uses, err := n.uses(device)
	if err != nil {
		return nil, err
	}
	root, err := n.tree.real()
	if err != nil {
		return nil, err
	}
	excepted := make(map[string]bool)
	for _, path := range except {
		if below, err := n.tree.relative("path", path); err == nil {
			excepted[root+"/"+below] = true
		}
	}
	var targets table
	for _, m := range uses {
		if strings.HasPrefix(m.point, root+"/") && !excepted[m.point] {
			targets = append(targets, m)
		}
	}
	return targets, nil
}

func (n *Node) unmountStaged(ctx context.Context, id volume.ID, at *place, v backend.Volume) error {
	t, err := mounts()
	if err != nil {
		return err
	}
	m, mounted := t.at(at.real)
	switch {
	case !mounted:
		return nil
	case dead(at):
		klog.FromContext(ctx).Error(at.stale, "Unmounting a filesystem that no longer answers", "path", at.real, "device", m.source)
		return unmountAll(at)
	case v.Device != "" && !m.holds(v.Device):
		klog.FromContext(ctx).V(0).Info("Staging path holds another mount, left as it is", "path", at.real, "source", m.source)
		return nil
	}
	if err := n.syncPlace(at); err != nil {
		if !n.lost(ctx, id) {
			return err
		}
		klog.FromContext(ctx).Error(err, "Unmounting a filesystem that cannot be written out any more", "path", at.real, "device", m.source)
	}
	return unmountAll(at)
}

// lost reports whether the engine knows that a volume takes no more writes here: it
// was deleted, another node took it over, or its storage failed. To insist on its
// being written out would keep it for ever.
func (n *Node) lost(ctx context.Context, id volume.ID) bool {
	health, err := n.engine.volumeHealth(ctx, id)
	return fault.Is(err, fault.NotFound) || slices.ContainsFunc(health, func(h backend.Health) bool {
		return h.Severity == backend.Inaccessible || h.Severity == backend.DataLoss
	})
}

func (n *Node) syncPlace(at *place) error {
	f, err := at.open()
	if err != nil {
		return err
	}
	defer f.Close()
	return syncMount(f)
}
