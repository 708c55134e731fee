package csi

import (
	"iter"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
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

// GetMetadataAllocated streams the ranges of a snapshot that hold data.
func (s *SnapshotMetadataServer) GetMetadataAllocated(r *csi.GetMetadataAllocatedRequest, stream csi.SnapshotMetadata_GetMetadataAllocatedServer) error {
	h, err := snapshotOf("snapshot_id", r.GetSnapshotId())
	if err != nil {
		return err
	}
	p, err := pagesOf(r.GetStartingOffset(), r.GetMaxResults())
	if err != nil {
		return err
	}
	sizeBytes, extents, err := s.service.Allocated(stream.Context(), h, p.offset)
	if err != nil {
		return err
	}
	return p.send(sizeBytes, extents, func(blocks []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataAllocatedResponse{
			BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: sizeBytes, BlockMetadata: blocks,
		})
	})
}

// GetMetadataDelta streams the ranges of a snapshot that may differ from an older
// one of the same volume.
func (s *SnapshotMetadataServer) GetMetadataDelta(r *csi.GetMetadataDeltaRequest, stream csi.SnapshotMetadata_GetMetadataDeltaServer) error {
	if err := required(field{"base_snapshot_id", r.GetBaseSnapshotId()}, field{"target_snapshot_id", r.GetTargetSnapshotId()}); err != nil {
		return err
	}
	base, err := snapshotOf("base_snapshot_id", r.GetBaseSnapshotId())
	if err != nil {
		return err
	}
	target, err := snapshotOf("target_snapshot_id", r.GetTargetSnapshotId())
	if err != nil {
		return err
	}
	p, err := pagesOf(r.GetStartingOffset(), r.GetMaxResults())
	if err != nil {
		return err
	}
	sizeBytes, extents, err := s.service.Delta(stream.Context(), base, target, p.offset)
	if err != nil {
		return err
	}
	return p.send(sizeBytes, extents, func(blocks []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataDeltaResponse{
			BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: sizeBytes, BlockMetadata: blocks,
		})
	})
}

// maxBlocks bounds a message of a stream: some 100 KiB, whatever is asked for.
const maxBlocks = 4096

// pages cut a stream of extents into messages.
type pages struct {
	offset int64
	blocks int // at most, in a message
}

func pagesOf(offset int64, maxResults int32) (pages, error) {
	if maxResults < 0 {
		return pages{}, fault.New(fault.Invalid, "max_results: %d: want 0 or more", maxResults)
	}
	if offset < 0 {
		return pages{}, fault.New(fault.OutOfRange, "starting_offset: %d: want 0 or more", offset)
	}
	if maxResults == 0 || maxResults > maxBlocks {
		maxResults = maxBlocks
	}
	return pages{offset, int(maxResults)}, nil
}

// send passes extents on in messages, at least one, so that even a caller that
// gets no range learns the capacity. It holds no more than one message.
func (p pages) send(sizeBytes int64, extents iter.Seq2[backend.Extent, error], message func([]*csi.BlockMetadata) error) error {
	var blocks []*csi.BlockMetadata
	sent, end := false, p.offset
	for e, err := range extents {
		if err != nil {
			return err
		}
		if e.Offset < end || e.Length <= 0 || e.Length > sizeBytes-e.Offset {
			return fault.New(fault.Internal, "the range at %d of %d bytes follows one that ends at %d, in a volume of %d: want ascending ranges inside it", e.Offset, e.Length, end, sizeBytes)
		}
		end = e.Offset + e.Length
		if len(blocks) == p.blocks {
			if err := message(blocks); err != nil {
				return err
			}
			sent, blocks = true, nil // the message is not ours any more
		}
		blocks = append(blocks, &csi.BlockMetadata{ByteOffset: e.Offset, SizeBytes: e.Length})
	}
	if sent && len(blocks) == 0 {
		return nil
	}
	return message(blocks)
}
