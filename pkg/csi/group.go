package csi

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/controller"
)

// GroupControllerServer is the CSI GroupController service.
type GroupControllerServer struct {
	csi.UnimplementedGroupControllerServer
	service controller.Service
}

// NewGroupControllerServer makes the GroupController service on top of a
// controller.
func NewGroupControllerServer(s controller.Service) *GroupControllerServer {
	return &GroupControllerServer{service: s}
}
