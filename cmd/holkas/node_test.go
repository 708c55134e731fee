package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/holkas-io/holkas/pkg/demo/site"
)

// kubelet dials a registration socket as the kubelet does.
type kubelet struct {
	t *testing.T
	registerapi.RegistrationClient
}

func registrationSocket(s *site.Site) string {
	return filepath.Join(s.Kubelet, "plugins_registry", "csi.holkas.io-reg.sock")
}

func newKubelet(t *testing.T, s *site.Site) kubelet {
	t.Helper()
	return kubelet{t, registerapi.NewRegistrationClient(dial(t, registrationSocket(s)))}
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// register asks for the driver's info, calls its node service, and answers.
func (k kubelet) register(refusal string) {
	k.t.Helper()
	info, err := k.GetInfo(k.t.Context(), &registerapi.InfoRequest{})
	must(k.t, err)
	if info.Name != "csi.holkas.io" || info.Type != registerapi.CSIPlugin {
		k.t.Fatalf("plugin %v: want the CSI driver csi.holkas.io", info)
	}
	node, err := csi.NewNodeClient(dial(k.t, info.Endpoint)).NodeGetInfo(k.t.Context(), &csi.NodeGetInfoRequest{})
	must(k.t, err)
	if node.NodeId != "demo" || node.MaxVolumesPerNode != 7 {
		k.t.Errorf("node info %v: want node demo with 7 volumes", node)
	}
	_, err = k.NotifyRegistrationStatus(k.t.Context(), &registerapi.RegistrationStatus{PluginRegistered: refusal == "", Error: refusal})
	must(k.t, err)
}

// TestKubelet registers the driver with a kubelet: not before the engine
// answers, again when the kubelet's directory was wiped, and refused.
func TestKubelet(t *testing.T) {
	args := map[string][]string{"engine": {"--max-volumes=7"}, "node": {}}
	s := prepare(t, args)
	s.NodePlugin.AddArgs("--kubelet-endpoint=" + s.NodePlugin.Socket())
	start(t, s.NodePlugin)
	eventually(t, "the node service says that it waits for its engine", func() bool {
		return strings.Contains(string(s.NodePlugin.Log(8000)), "the driver is not registered before it does")
	})
	if _, err := os.Lstat(registrationSocket(s)); err == nil {
		t.Error("the driver offers itself to the kubelet though its engine does not answer")
	}
	start(t, s.Engine)
	there := func() bool { _, err := os.Lstat(registrationSocket(s)); return err == nil }
	eventually(t, "the driver offers itself", there)
	newKubelet(t, s).register("")
	must(t, os.Remove(registrationSocket(s)))
	eventually(t, "the driver offers itself again", there)
	newKubelet(t, s).register("no room for you")
	if log := wantExit(t, s.NodePlugin, exitFailed); !strings.Contains(log, "holkas node: registration: ") || !strings.Contains(log, "no room for you") {
		t.Errorf("want the kubelet's words in:\n%s", log)
	}
	if there() {
		t.Error("the registration socket was left behind")
	}
}
