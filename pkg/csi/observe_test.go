package csi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// recorder is a logger that keeps all that it is given, at every level.
func recorder(t *testing.T) (logger klog.Logger, text func() string) {
	logger = ktesting.NewLogger(t, ktesting.NewConfig(ktesting.Verbosity(10), ktesting.BufferLogs(true)))
	return logger, func() string { return logger.GetSink().(ktesting.Underlier).GetBuffer().String() }
}

// methods are all methods of all services of CSI.
func methods() (all []protoreflect.MethodDescriptor) {
	services := csi.File_csi_proto.Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			all = append(all, services.Get(i).Methods().Get(j))
		}
	}
	return all
}

// message makes an empty message of a kind.
func message(t testing.TB, d protoreflect.MessageDescriptor) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

func fullMethod(d protoreflect.MethodDescriptor) string {
	return "/" + string(d.Parent().FullName()) + "/" + string(d.Name())
}

const canary = "hunter2"

// populate fills every field of a message, and puts the canary wherever a secret
// may be.
func populate(m protoreflect.Message, inSecret bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		hot := inSecret || f.Name() == "secrets" || f.Name() == "mount_flags"
		switch {
		case f.IsMap():
			value := "v"
			if hot {
				value = canary
			}
			m.Mutable(f).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString(value))
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			populate(m.Mutable(f).List().AppendMutable().Message(), hot)
		case f.IsList():
			m.Mutable(f).List().Append(sample(f, hot))
		case f.Kind() == protoreflect.MessageKind:
			populate(m.Mutable(f).Message(), hot)
		default:
			m.Set(f, sample(f, hot))
		}
	}
}

func sample(f protoreflect.FieldDescriptor, hot bool) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		if hot {
			return protoreflect.ValueOfString("discard=" + canary)
		}
		switch f.Name() {
		case "volume_id", "source_volume_id", "source_volume_ids":
			return protoreflect.ValueOfString(string(volume.NewID()))
		case "fs_type":
			return protoreflect.ValueOfString("ext4")
		}
		return protoreflect.ValueOfString("x")
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	}
	panic(fmt.Sprint("a field of kind ", f.Kind()))
}

// TestSecretsAreNeverLogged calls every method of every service with a canary in
// all secrets and mount flags, and looks for it in the log and in the errors.
func TestSecretsAreNeverLogged(t *testing.T) {
	logger, text := recorder(t)
	o, err := newObserver(logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	secrets := 0
	for _, d := range methods() {
		m := message(t, d.Input())
		populate(m.ProtoReflect(), false)
		if d.Input().Fields().ByName("secrets") != nil {
			secrets++
		}
		f := &fakeService{err: fault.New(fault.Corrupt, "rot")}
		n := &fakeNode{err: fault.New(fault.Corrupt, "rot")}
		if _, err := dispatch(t.Context(), o, f, n, d, m); err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error %v has the secret", d.Name(), err)
		}
		if got := text(); strings.Contains(got, canary) {
			t.Fatalf("%s: the log has the secret: %s", d.Name(), got)
		}
		if got := text(); !strings.Contains(got, fmt.Sprintf("rpc=%q", d.Name())) {
			t.Errorf("%s: is not in the log", d.Name())
		}
	}
	if secrets < 20 || !strings.Contains(text(), "***stripped***") {
		t.Errorf("%d requests with secrets: the test lost its point", secrets)
	}
}

// TestEverySecretIsMarked: what is stripped is found by the specification's mark.
func TestEverySecretIsMarked(t *testing.T) {
	for _, d := range methods() {
		if f := d.Input().Fields().ByName("secrets"); f != nil && !proto.GetExtension(f.Options(), csi.E_CsiSecret).(bool) {
			t.Errorf("%s is not marked as a secret", f.FullName())
		}
	}
}

// dispatch calls the handler of a method through the interceptor.
func dispatch(ctx context.Context, o *observer, f *fakeService, n *fakeNode, d protoreflect.MethodDescriptor, request proto.Message) (any, error) {
	for _, service := range []struct {
		desc *grpc.ServiceDesc
		impl any
	}{
		{&csi.Identity_ServiceDesc, NewIdentityServer(IdentityOptions{Version: "1"})},
		{&csi.Controller_ServiceDesc, NewControllerServer(f)},
		{&csi.GroupController_ServiceDesc, NewGroupControllerServer(f)},
		{&csi.SnapshotMetadata_ServiceDesc, NewSnapshotMetadataServer(f)},
		{&csi.Node_ServiceDesc, NewNodeServer(n)},
	} {
		if service.desc.ServiceName != string(d.Parent().FullName()) {
			continue
		}
		for _, m := range service.desc.Methods {
			if m.MethodName == string(d.Name()) {
				return m.Handler(service.impl, ctx, func(into any) error { proto.Merge(into.(proto.Message), request); return nil }, o.unary)
			}
		}
		for _, s := range service.desc.Streams {
			if s.StreamName == string(d.Name()) {
				return nil, o.stream(service.impl, &fedStream{ctx: ctx, request: request}, &grpc.StreamServerInfo{FullMethod: fullMethod(d)}, s.Handler)
			}
		}
	}
	panic("no handler for " + fullMethod(d))
}

// fedStream is a stream whose request is there, and whose replies are dropped.
type fedStream struct {
	grpc.ServerStream
	ctx     context.Context
	request proto.Message
}

func (s *fedStream) Context() context.Context { return s.ctx }
func (s *fedStream) SendMsg(any) error        { return nil }
func (s *fedStream) RecvMsg(into any) error {
	proto.Merge(into.(proto.Message), s.request)
	return nil
}

// TestLogNamesTheCall: what a handler and the domain log can be told apart.
func TestLogNamesTheCall(t *testing.T) {
	logger, text := recorder(t)
	f := &fakeService{wait: func(ctx context.Context) { klog.FromContext(ctx).Info("Deep inside") }, extents: extents(nil, nil)}
	client := connected(t, Services{Controller: NewControllerServer(f), SnapshotMetadata: NewSnapshotMetadataServer(f)}, func(o *ServeOptions, ctx context.Context) context.Context {
		return klog.NewContext(ctx, logger)
	})
	id, h := volume.NewID(), f.Handle(volume.NewSnapshotID())
	if _, err := csi.NewControllerClient(client).DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: string(id)}); err != nil {
		t.Fatal(err)
	}
	metadata(t, f, allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: h.String()}))
	stream, err := csi.NewSnapshotMetadataClient(client).GetMetadataAllocated(t.Context(), &csi.GetMetadataAllocatedRequest{SnapshotId: h.String()})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	lines := slices.Collect(strings.Lines(text()))
	for _, subject := range []string{fmt.Sprintf("volumeID=%q", id), fmt.Sprintf("snapshotID=%q", h)} {
		count := 0
		for _, line := range lines {
			if strings.Contains(line, subject) && strings.Contains(line, "requestID=") {
				count++
			}
		}
		if count != 3 { // the request, what the domain says, and the reply
			t.Errorf("%d lines with %s: %s", count, subject, text())
		}
	}
}

func TestPanicsAreInternal(t *testing.T) {
	logger, text := recorder(t)
	f := &fakeService{panic: "boom of " + canary}
	client := connected(t, Services{Controller: NewControllerServer(f), SnapshotMetadata: NewSnapshotMetadataServer(f)}, func(o *ServeOptions, ctx context.Context) context.Context {
		return klog.NewContext(ctx, logger)
	})
	_, err := csi.NewControllerClient(client).DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: string(volume.NewID())})
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v, want internal, without the panic's content", err)
	}
	stream, err := csi.NewSnapshotMetadataClient(client).GetMetadataAllocated(t.Context(), &csi.GetMetadataAllocatedRequest{SnapshotId: f.Handle(volume.NewSnapshotID()).String()})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Internal {
		t.Errorf("stream: got %v, want internal", err)
	}
	if got := text(); strings.Count(got, "boom") < 2 || !strings.Contains(got, "fakeService") {
		t.Errorf("the log has no stack: %s", got)
	}
	f.panic = nil
	if _, err := csi.NewControllerClient(client).DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: string(volume.NewID())}); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestCallsAreCounted(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	f := &fakeService{extents: extents([]backend.Extent{{Offset: 0, Length: 1}}, nil), sizeBytes: 1}
	f.add(repository.Volume{Node: "n1"})
	for range 2 { // the second time, the registry has the histogram already
		client := connected(t, Services{Controller: NewControllerServer(f)}, func(o *ServeOptions, ctx context.Context) context.Context {
			o.Registerer = registry
			return ctx
		})
		c := csi.NewControllerClient(client)
		_, _ = c.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
		_, _ = c.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: -1})
		_, _ = c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: impossible})
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	got := map[string]uint64{}
	for _, m := range families[0].Metric {
		got[m.Label[1].GetValue()+" "+m.Label[0].GetValue()] = m.Histogram.GetSampleCount()
	}
	want := map[string]uint64{"ListVolumes OK": 2, "ListVolumes InvalidArgument": 2, "DeleteVolume OK": 2}
	for key, count := range want {
		if got[key] != count || len(got) != len(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}
