package controller

import (
	"context"
	"iter"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Engines reaches the backends of nodes.
type Engines interface {
	// Backend returns a node's backend by name. The connection is made and kept
	// behind it: an engine that does not answer is Transient at the first call.
	Backend(node repository.Node, name string) (backend.Backend, error)
}

// CreateVolumeRequest is a validated request for a volume.
type CreateVolumeRequest struct {
	Name string
	// MinimumBytes is the least size that its filesystem can have.
	MinimumBytes int64
	Class        volume.Class
	Request      repository.Request // what is stored and compared on a retry
	Topology     Topology
	// Block says that it is used as raw block, so that nothing in it is touched.
	Block   bool
	Secrets volume.Secrets
}

// Topology says which nodes a volume may be on: any if Requisite is nil, and
// none at all if it is empty but not nil (a topology that no node can have).
// Preferred come first, in order.
type Topology struct {
	Requisite []volume.NodeID
	Preferred []volume.NodeID
}

// CreateSnapshotRequest is a validated request for a snapshot.
type CreateSnapshotRequest struct {
	Name        string
	Volume      volume.ID
	Consistency volume.Consistency
	Topology    Topology
	Secrets     volume.Secrets
}

// CreateGroupRequest is a validated request for a group snapshot.
type CreateGroupRequest struct {
	Name        string
	Volumes     []volume.ID // no duplicates
	Consistency volume.Consistency
	Secrets     volume.Secrets
}

// PublishRequest is a validated request to publish a volume to a node.
type PublishRequest struct {
	Volume volume.ID
	repository.Publication
}

// VolumeHealth is what is wrong with one volume.
type VolumeHealth struct {
	Volume volume.ID
	Health []backend.Health
}

// Service is what the controller does; package csi calls it. Errors are of
// package fault. Deletes and unpublishes of what does not exist succeed.
type Service interface {
	CreateVolume(ctx context.Context, r CreateVolumeRequest) (repository.Volume, error)
	DeleteVolume(ctx context.Context, id volume.ID) error
	Volume(ctx context.Context, id volume.ID) (repository.Volume, error)
	// Volumes returns a page in ascending order of id of those after the id
	// `after`; next is empty at the end. A page may be short.
	Volumes(ctx context.Context, after volume.ID, limit int) (page []repository.Volume, next volume.ID, err error)
	ExpandVolume(ctx context.Context, id volume.ID, r volume.Range) (repository.Volume, error)
	ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) error
	Publish(ctx context.Context, r PublishRequest) (repository.Volume, error)
	// Unpublish ends the publication to a node, or all of them if node is empty.
	Unpublish(ctx context.Context, id volume.ID, node volume.NodeID) error
	VolumeHealth(ctx context.Context, id volume.ID) (VolumeHealth, error)
	// Capacity sums over the nodes that the topology allows.
	Capacity(ctx context.Context, class volume.Class, t Topology) (backend.Capacity, error)

	CreateSnapshot(ctx context.Context, r CreateSnapshotRequest) (repository.Snapshot, error)
	DeleteSnapshot(ctx context.Context, h volume.Handle) error
	Snapshot(ctx context.Context, h volume.Handle) (repository.Snapshot, error)
	Snapshots(ctx context.Context, after volume.SnapshotID, limit int) (page []repository.Snapshot, next volume.SnapshotID, err error)
	// CheckKey sees that the key among the secrets, if there is one, opens a snapshot
	// that is encrypted. Precondition, naming the fingerprints of both keys, if it
	// is another one; Invalid if it is none.
	CheckKey(ctx context.Context, s repository.Snapshot, secrets volume.Secrets) error
	// Handle returns the name of a snapshot outside this site.
	Handle(id volume.SnapshotID) volume.Handle
	GroupHandle(id volume.GroupID) volume.GroupHandle

	CreateGroup(ctx context.Context, r CreateGroupRequest) (repository.Group, []repository.Snapshot, error)
	Group(ctx context.Context, h volume.GroupHandle) (repository.Group, []repository.Snapshot, error)
	// DeleteGroup deletes the group and its members. members, if given, must be
	// exactly the group's (Invalid otherwise).
	DeleteGroup(ctx context.Context, h volume.GroupHandle, members []volume.Handle) error

	// Allocated and Delta are the backend's, for snapshots of this repository;
	// sizeBytes is the target's size.
	Allocated(ctx context.Context, h volume.Handle, offset int64) (sizeBytes int64, extents iter.Seq2[backend.Extent, error], err error)
	Delta(ctx context.Context, base, target volume.Handle, offset int64) (sizeBytes int64, extents iter.Seq2[backend.Extent, error], err error)
}
