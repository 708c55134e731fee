package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// DriverName is the name of the CSI driver.
const DriverName = "csi.holkas.io"

// IdentityOptions of NewIdentityServer.
type IdentityOptions struct {
	// Version is the plugin's vendor_version.
	Version string
	// Ready reports whether the process's own start is over; nil: it is. An
	// outage of a store or an engine is no reason to say no: a liveness probe
	// would restart the process for it.
	Ready func() bool
}

// IdentityServer is the CSI Identity service. Every process of the driver
// serves it, and says the same of the plugin as a whole.
type IdentityServer struct {
	csi.UnimplementedIdentityServer
	options IdentityOptions
}

// NewIdentityServer makes the Identity service.
func NewIdentityServer(o IdentityOptions) *IdentityServer { return &IdentityServer{options: o} }

// GetPluginInfo says which driver this is.
func (s *IdentityServer) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: DriverName, VendorVersion: s.options.Version}, nil
}

// pluginServices are what the plugin has, in whichever process.
var pluginServices = []csi.PluginCapability_Service_Type{
	csi.PluginCapability_Service_CONTROLLER_SERVICE,
	csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS,
	csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE,
	csi.PluginCapability_Service_SNAPSHOT_METADATA_SERVICE,
	csi.PluginCapability_Service_SNAPSHOT_ACCESSIBILITY_CONSTRAINTS,
}

// GetPluginCapabilities says what the plugin has.
func (s *IdentityServer) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	reply := &csi.GetPluginCapabilitiesResponse{}
	for _, service := range pluginServices {
		reply.Capabilities = append(reply.Capabilities, &csi.PluginCapability{
			Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: service}},
		})
	}
	reply.Capabilities = append(reply.Capabilities, &csi.PluginCapability{
		Type: &csi.PluginCapability_VolumeExpansion_{
			VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE},
		},
	})
	return reply, nil
}

// Probe says whether the process has started.
func (s *IdentityServer) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(s.options.Ready == nil || s.options.Ready())}, nil
}
