package csi

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/controller"
)

// ControllerServer is the CSI Controller service.
type ControllerServer struct {
	csi.UnimplementedControllerServer
	service controller.Service
}

// NewControllerServer makes the Controller service on top of a controller.
func NewControllerServer(s controller.Service) *ControllerServer {
	return &ControllerServer{service: s}
}
