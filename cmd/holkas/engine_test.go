package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/agent"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// engineOf returns the backend of a site's engine.
func engineOf(t *testing.T, s *site.Site) backend.Backend {
	t.Helper()
	d := &agent.Dialer{}
	t.Cleanup(func() { d.Close() })
	b, err := d.Backend(repository.Node{ID: s.Node, Address: s.AgentEndpoint()}, volume.BackendLocal)
	must(t, err)
	return b
}

// staged makes a volume at the engine and has it mounted by the node service, as
// it would be if a controller had made it before.
func staged(t *testing.T, s *site.Site, c site.Clients) *site.Mounted {
	t.Helper()
	class, err := volume.ParseClass(map[string]string{}, nil)
	must(t, err)
	id := volume.NewID()
	_, err = engineOf(t, s).CreateVolume(t.Context(), backend.CreateVolumeRequest{ID: id, SizeBytes: 64 * mib, Class: class})
	must(t, err)
	m := s.At(&csi.Volume{VolumeId: string(id)}, site.Filesystem("ext4"), "target")
	must(t, c.Stage(t.Context(), m))
	must(t, c.PublishAt(t.Context(), m))
	return m
}

// TestRepositoryAway starts an engine whose repository's store is away: volumes
// are served, and the node is announced once the store is there.
func TestRepositoryAway(t *testing.T) {
	s := prepare(t, nil)
	away := filepath.Dir(s.Repository)
	must(t, os.Rename(away, away+"-gone"))
	start(t, s.Engine, s.NodePlugin)
	clients, err := s.Clients(0)
	must(t, err)
	m := staged(t, s, clients)
	file := filepath.Join(m.Target, "file")
	must(t, os.WriteFile(file, []byte("kept"), 0o600))
	eventually(t, "the engine says that it is not announced", func() bool {
		return strings.Contains(string(s.Engine.Log(8000)), "Node is not announced")
	})

	must(t, os.Rename(away+"-gone", away))
	start(t, s.Controller[0])
	eventually(t, "a controller can create a volume on the node", func() bool {
		_, err := clients.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
			Name: "later", CapacityRange: &csi.CapacityRange{RequiredBytes: 16 * mib}, VolumeCapabilities: []*csi.VolumeCapability{site.Block()},
		})
		return err == nil
	})

	// And it goes away again, under engines that start and end.
	must(t, os.Rename(away, away+"-gone"))
	must(t, s.Engine.Stop(t.Context()))
	start(t, s.Engine)
	unmount(t, clients, m)
}

// unmount undoes staged.
func unmount(t *testing.T, c site.Clients, m *site.Mounted) {
	t.Helper()
	_, err := c.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: m.Volume.VolumeId, TargetPath: m.Target})
	must(t, err)
	_, err = c.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: m.Volume.VolumeId, StagingTargetPath: m.Staging})
	must(t, err)
}

// TestEngineEnds sees that devices stay attached when an engine ends, that a
// mounted volume does not notice, and that the next engine has it again.
func TestEngineEnds(t *testing.T) {
	s := prepare(t, nil)
	start(t, s.Processes()...)
	clients, err := s.Clients(0)
	must(t, err)
	m := staged(t, s, clients)
	for _, end := range []func(){
		func() { must(t, s.Engine.Stop(t.Context())); wantExit(t, s.Engine, exitOK) },
		func() { s.Engine.Kill() },
	} {
		before, err := engineOf(t, s).Volume(t.Context(), volume.ID(m.Volume.VolumeId))
		must(t, err)
		end()
		must(t, os.WriteFile(filepath.Join(m.Target, "file"), []byte("written without an engine"), 0o600))
		start(t, s.Engine)
		after, err := engineOf(t, s).Volume(t.Context(), volume.ID(m.Volume.VolumeId))
		must(t, err)
		if before.Device == "" || before.Device != after.Device {
			t.Errorf("device %q before, %q after: want the same", before.Device, after.Device)
		}
	}
	unmount(t, clients, m)
	for _, p := range s.Processes() {
		must(t, p.Stop(t.Context()))
		wantExit(t, p, exitOK)
	}
}

// TestTwoEnginesOnePool sees that a second engine leaves a pool alone that
// another one has.
func TestTwoEnginesOnePool(t *testing.T) {
	s := prepare(t, map[string][]string{"engine": {"--v=0"}})
	start(t, s.Engine)
	second := prepare(t, map[string][]string{"engine": {"--pool=other=" + s.PoolPath("pool")}})
	must(t, second.Engine.Spawn())
	log := wantExit(t, second.Engine, exitFailed)
	if !strings.Contains(log, "holkas engine: open pool other: ") || !strings.Contains(log, "another") {
		t.Errorf("want a word of another engine that has the pool in:\n%s", log)
	}
	_, err := engineOf(t, s).Capacity(t.Context(), volume.Class{Backend: volume.BackendLocal, Provisioning: volume.Thick})
	must(t, err)
}

// TestOtherMachine sees that an engine ends with the repository's words if its
// directory is that of another machine.
func TestOtherMachine(t *testing.T) {
	s := prepare(t, nil)
	c := catalogue{at: location{dir: s.Repository}}
	r, err := c.openDir(t.Context())
	must(t, err)
	must(t, controller.Announce(t.Context(), r, repository.Node{
		ID: "elsewhere", Address: "unix:///x", Machine: "another", Backends: []string{volume.BackendLocal}, Changed: time.Now(),
	}, true))
	must(t, s.Engine.Spawn())
	log := wantExit(t, s.Engine, exitFailed)
	if want := `holkas engine: announcement: node "demo": the repository is a directory, which serves one machine, and node "elsewhere" is on another one`; !strings.Contains(log, want) {
		t.Errorf("want %s in:\n%s", want, log)
	}

	// The operator says that the other one is gone.
	if code, out, stderr := try(t, "no\n", "retire", "elsewhere", "--repository=dir:"+s.Repository); code != exitFailed || !strings.Contains(stderr, "nothing was changed") {
		t.Errorf("retire without a yes: exit code %d, %q, %q; want %d", code, out, stderr, exitFailed)
	}
	if code, _, stderr := try(t, "", "retire", "nobody", "--repository=dir:"+s.Repository); code != exitFailed || !strings.Contains(stderr, `want one of "elsewhere"`) {
		t.Errorf("retire of an unknown node: exit code %d, %q; want %d and the known ones", code, stderr, exitFailed)
	}
	if code, out, stderr := try(t, "yes\n", "retire", "elsewhere", "--repository=dir:"+s.Repository); code != exitOK || !strings.HasSuffix(out, "node \"elsewhere\" is retired\n") {
		t.Errorf("retire: exit code %d, %q, %q; want %d", code, out, stderr, exitOK)
	}
	if code, out, _ := try(t, "", "retire", "elsewhere", "--repository=dir:"+s.Repository); code != exitOK || !strings.Contains(out, "was retired on") {
		t.Errorf("retire twice: exit code %d, %q; want %d", code, out, exitOK)
	}
	start(t, s.Engine)
	eventually(t, "the engine is announced", func() bool {
		n, err := r.Nodes.Latest(t.Context(), string(s.Node))
		return err == nil && !n.Value.Retired
	})
}
