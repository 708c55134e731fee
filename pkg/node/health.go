package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// healthWait bounds how long health waits for an engine: that it does not answer
// is an answer.
const healthWait = time.Second

// unreachable is the health of an engine that does not answer.
func unreachable(err error) backend.Health {
	return backend.Health{
		Severity: backend.Inaccessible, Reason: "EngineUnreachable",
		Message: fmt.Sprintf("the engine of this node does not answer (%v): see that it runs; what is mounted goes on working", err),
	}
}

// HealthRequest says which volume to look at, and where it is or was to be.
type HealthRequest struct {
	ID          volume.ID
	PublishPath string // may be empty
	StagingPath string // may be empty
}

// VolumeHealth returns what is wrong with a volume as seen from this node: what
// its engine knows, and what its mounts show. NotFound if the engine does not
// know it; Invalid for an impossible path.
func (n *Node) VolumeHealth(ctx context.Context, r HealthRequest) ([]backend.Health, error) {
	health, err := patiently(ctx, healthWait, func() ([]backend.Health, error) { return n.engine.volumeHealth(ctx, r.ID) })
	if fault.Is(err, fault.Transient) {
		health, err = []backend.Health{unreachable(err)}, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, "health of", string(r.ID))
	}
	for field, path := range map[string]string{"volume_publish_path": r.PublishPath, "staging_target_path": r.StagingPath} {
		if path == "" {
			continue
		}
		found, err := n.mountHealth(field, path)
		if err != nil {
			return nil, fault.Wrap(err, "health of", string(r.ID))
		}
		health = append(health, found...)
	}
	return distinct(health), nil
}

// StorageHealth returns what is wrong with the storage of this node.
func (n *Node) StorageHealth(ctx context.Context) ([]backend.Health, error) {
	health, err := patiently(ctx, healthWait, func() ([]backend.Health, error) { return n.engine.health(ctx) })
	if fault.Is(err, fault.Transient) {
		health, err = []backend.Health{unreachable(err)}, nil
	}
	return distinct(health), fault.Wrap(err, "storage health of", string(n.id))
}

// distinct sorts health, the worst first, and leaves one of each severity and
// reason.
func distinct(health []backend.Health) []backend.Health {
	rank := []backend.Severity{backend.DataLoss, backend.Inaccessible, backend.Degraded}
	slices.SortStableFunc(health, func(a, b backend.Health) int {
		if c := slices.Index(rank, a.Severity) - slices.Index(rank, b.Severity); c != 0 {
			return c
		}
		return strings.Compare(a.Reason, b.Reason)
	})
	return slices.CompactFunc(health, func(a, b backend.Health) bool { return a.Severity == b.Severity && a.Reason == b.Reason })
}

// mountHealth looks at the mount at a path. None at all is not ill: the volume
// may not be there yet, or not any more.
func (n *Node) mountHealth(field, path string) ([]backend.Health, error) {
	at, err := n.tree.find(field, path)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer at.Close()
	t, err := mounts()
	if err != nil {
		return nil, err
	}
	m, mounted := t.at(at.real)
	if !mounted || !mountable(m) {
		return nil, nil
	}
	return ills(m, at), nil
}

func ills(m mount, at *place) (health []backend.Health) {
	add := func(severity backend.Severity, reason, format string, args ...any) {
		health = append(health, backend.Health{Severity: severity, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	d, err := lookAtDevice(m.source)
	switch {
	case err != nil || d.sizeBytes == 0:
		add(backend.Inaccessible, "DeviceGone", "the device %s under %s is gone: stop the workload, unpublish and unstage the volume", m.source, at.real)
	case dead(at) || slices.Contains(m.superOptions, "shutdown"):
		add(backend.Inaccessible, "FilesystemDown", "the filesystem at %s no longer answers: see the kernel's log, then unpublish and unstage the volume", at.real)
	case !d.readOnly && (m.superReadOnly || slices.Contains(m.superOptions, "emergency_ro")):
		add(backend.Inaccessible, "FilesystemReadOnly", "the filesystem at %s became read-only after an error: see the kernel's log, unpublish and unstage the volume; it is checked when it is staged again", at.real)
	}
	if count := ext4Errors(m); count != "" && count != "0" {
		add(backend.Degraded, "FilesystemErrors", "the filesystem at %s has met %s errors: unstage the volume and check it with %q", at.real, count, checkCommand(volume.Ext4, m.source))
	}
	return health
}

// ext4Errors is the count of errors that an ext4 filesystem has met, or empty.
func ext4Errors(m mount) string {
	if volume.Filesystem(m.fstype) != volume.Ext4 {
		return ""
	}
	count, err := os.ReadFile(filepath.Join("/sys/fs/ext4", filepath.Base(m.source), "errors_count"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(count))
}
