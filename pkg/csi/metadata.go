package csi

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/controller"
)

// SnapshotMetadataServer is the CSI SnapshotMetadata service.
type SnapshotMetadataServer struct {
	csi.UnimplementedSnapshotMetadataServer
	service controller.Service
}

// NewSnapshotMetadataServer makes the SnapshotMetadata service on top of a
// controller.
func NewSnapshotMetadataServer(s controller.Service) *SnapshotMetadataServer {
	return &SnapshotMetadataServer{service: s}
}
