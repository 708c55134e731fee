package csi

import (
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// FuzzRequests sends whole requests of every method through the interceptor and
// the handlers, on services that refuse nothing. Whatever the bytes say, a call
// succeeds or the caller is told what is wrong with the request, and the domain
// is asked only for what its types allow.
func FuzzRequests(f *testing.F) {
	all := methods()
	for i, d := range all {
		full := message(f, d.Input())
		populate(full.ProtoReflect(), false)
		for _, m := range []proto.Message{message(f, d.Input()), full} {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), b)
		}
	}
	o, err := newObserver(klog.Background(), nil)
	if err != nil {
		f.Fatal(err)
	}
	refusals := []codes.Code{codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.Aborted, codes.OutOfRange, codes.FailedPrecondition}
	f.Fuzz(func(t *testing.T, method uint8, body []byte) {
		d := all[int(method)%len(all)]
		m := message(t, d.Input())
		if proto.Unmarshal(body, m) != nil {
			return
		}
		s := &fakeService{sizeBytes: 8, extents: extents([]backend.Extent{{Offset: 0, Length: 8}}, nil)}
		s.add(repository.Volume{Node: "n1", SizeBytes: 4 << 20})
		s.addSnapshot(repository.Snapshot{Volume: volume.NewID(), Node: "n1"})
		_, err := dispatch(t.Context(), o, s, &fakeNode{}, d, m)
		if code := status.Code(err); !slices.Contains(refusals, code) && !isTooFar(d.Name(), m, code) {
			t.Errorf("%s %v: %v", d.Name(), m, err)
		}
		if err != nil && (len(err.Error()) > 16<<10 || strings.Contains(err.Error(), canary)) {
			t.Errorf("%s: an error of %d bytes, or one with a secret: %.500v", d.Name(), len(err.Error()), err)
		}
		if err == nil {
			checkAsked(t, s.asked)
		}
	})
}
