package agent

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

var (
	cutAt    = time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC)
	anyClass = volume.Class{ // every field set, whosever it is
		Backend: "local", Provisioning: volume.Thin, Pool: "fast", PoolType: volume.BtrfsPool, MaxSnapshotPause: 1500 * time.Millisecond,
		Repository: volume.NewRepositoryID(), CacheBytes: volume.CacheFull, Durability: volume.ObjectDurability, OnNodeLoss: volume.Wait,
		UploadDelay: 250 * time.Millisecond, Compression: volume.NoCompression, Encryption: volume.AES256GCM,
	}
	anyMutable = volume.Mutable{
		Provisioning: pointer(volume.Thick), MaxSnapshotPause: pointer(time.Second), CacheBytes: pointer(int64(10 << 30)),
		Durability: pointer(volume.JournalDurability), OnNodeLoss: pointer(volume.Rollback), UploadDelay: pointer(time.Minute), Compression: pointer(volume.Zstd),
	}
	anyVolume = backend.Volume{
		ID: volume.NewID(), SizeBytes: 1 << 40, Class: anyClass, Source: backend.Source{Snapshot: volume.NewSnapshotID()}, Pool: "fast",
		Filesystem: backend.Filesystem{Type: volume.XFS, State: backend.Cloned}, CreatedAt: cutAt, Device: "/dev/loop7", UsedBytes: 12345,
	}
	bareVolume  = backend.Volume{ID: volume.NewID(), SizeBytes: 1 << 20}
	anySnapshot = backend.Snapshot{
		ID: volume.NewSnapshotID(), Volume: anyVolume.ID, SizeBytes: 1 << 40, Consistency: volume.CrashConsistent,
		Filesystem: backend.Filesystem{Type: volume.Ext4, State: backend.Formatting}, CreatedAt: cutAt, Pause: 1234567, PredictedPause: time.Minute,
	}
	anyDevice  = backend.Device{Path: "/dev/loop7", SizeBytes: 1 << 40, ReadOnly: true, Filesystem: backend.Filesystem{Type: volume.Btrfs, State: backend.Formatted}}
	anyHealth  = []backend.Health{{Severity: backend.DataLoss, Reason: "Lost", Message: "m"}, {Severity: backend.Degraded, Reason: "Slow", Message: "n"}}
	anySecrets = volume.Secrets{"key": "value", "": ""}
)

func pointer[T any](v T) *T { return &v }

// exchange is one call: what the backend gets, and what the caller gets.
type exchange struct {
	name string
	do   func(context.Context, backend.Backend) (any, error)
	want any // in the backend
	give any // to the caller
}

// recorder is a backend that notes what it gets and gives what it is told.
type recorder struct {
	got  any
	give any
}

func give[T any](r *recorder, args ...any) (T, error) {
	r.got = args
	value, _ := r.give.(T)
	return value, nil
}

func (r *recorder) fake() *fake {
	note := func(args ...any) error { r.got = args; return nil }
	return &fake{
		create: func(_ context.Context, q backend.CreateVolumeRequest) (backend.Volume, error) {
			return give[backend.Volume](r, q)
		},
		remove: func(_ context.Context, id volume.ID) error { return note(id) },
		expand: func(_ context.Context, id volume.ID, n int64) (backend.Volume, error) {
			return give[backend.Volume](r, id, n)
		},
		modify: func(_ context.Context, id volume.ID, m volume.Mutable) (backend.Volume, error) {
			return give[backend.Volume](r, id, m)
		},
		record: func(_ context.Context, id volume.ID, f backend.Filesystem) error { return note(id, f) },
		get:    func(_ context.Context, id volume.ID) (backend.Volume, error) { return give[backend.Volume](r, id) },
		cut: func(_ context.Context, q backend.CreateSnapshotRequest) (backend.Snapshot, error) {
			return give[backend.Snapshot](r, q)
		},
		removeSnapshot: func(_ context.Context, id volume.SnapshotID) error { return note(id) },
		getSnapshot: func(_ context.Context, id volume.SnapshotID) (backend.Snapshot, error) {
			return give[backend.Snapshot](r, id)
		},
		pause:  func(_ context.Context, id backend.PauseID, v []volume.ID) error { return note(id, v) },
		resume: func(_ context.Context, id backend.PauseID) error { return note(id) },
		attach: func(_ context.Context, q backend.AttachRequest) (backend.Device, error) {
			return give[backend.Device](r, q)
		},
		detach:   func(_ context.Context, id volume.ID) error { return note(id) },
		capacity: func(_ context.Context, c volume.Class) (backend.Capacity, error) { return give[backend.Capacity](r, c) },
		volumeHealth: func(_ context.Context, id volume.ID) ([]backend.Health, error) {
			return give[[]backend.Health](r, id)
		},
		health: func(context.Context) ([]backend.Health, error) { return give[[]backend.Health](r) },
		allocated: func(_ context.Context, id volume.SnapshotID, n int64) iter.Seq2[backend.Extent, error] {
			return given[backend.Extent](r, id, n)
		},
		delta: func(_ context.Context, base, target volume.SnapshotID, n int64) iter.Seq2[backend.Extent, error] {
			return given[backend.Extent](r, base, target, n)
		},
		list: func(context.Context) iter.Seq2[backend.Volume, error] { return given[backend.Volume](r) },
	}
}

func given[T any](r *recorder, args ...any) iter.Seq2[T, error] {
	r.got = args
	all, _ := r.give.([]T)
	return func(yield func(T, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func collect[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for e, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

func exchanges() []exchange {
	id, sid := anyVolume.ID, anySnapshot.ID
	args := func(a ...any) []any { return a }
	extents := []backend.Extent{{Offset: 4096, Length: 1}, {Offset: 4097, Length: 1 << 40}}
	none := func(err error) (any, error) { return nil, err }
	create := backend.CreateVolumeRequest{ID: id, SizeBytes: 1 << 40, Class: anyClass, Source: backend.Source{Volume: bareVolume.ID}, ReadOnly: true, Secrets: anySecrets}
	bare := backend.CreateVolumeRequest{ID: bareVolume.ID, SizeBytes: 1 << 20}
	cut := backend.CreateSnapshotRequest{ID: sid, Volume: id, Consistency: volume.CrashConsistent, Pause: "g-1", Secrets: anySecrets}
	attach := backend.AttachRequest{ID: id, ReadOnly: true, Shared: true, Secrets: anySecrets}
	all := anyMutable
	type (
		ctx = context.Context
		be  = backend.Backend
	)
	return []exchange{
		{"create", func(c ctx, b be) (any, error) { return b.CreateVolume(c, create) }, args(create), anyVolume},
		{"create bare", func(c ctx, b be) (any, error) { return b.CreateVolume(c, bare) }, args(bare), bareVolume},
		{"delete", func(c ctx, b be) (any, error) { return none(b.DeleteVolume(c, id)) }, args(id), nil},
		{"expand", func(c ctx, b be) (any, error) { return b.ExpandVolume(c, id, 1<<41) }, args(id, int64(1<<41)), anyVolume},
		{"modify", func(c ctx, b be) (any, error) { return b.ModifyVolume(c, id, all) }, args(id, all), anyVolume},
		{"modify nothing", func(c ctx, b be) (any, error) { return b.ModifyVolume(c, id, volume.Mutable{}) }, args(id, volume.Mutable{}), anyVolume},
		{"record", func(c ctx, b be) (any, error) { return none(b.RecordFilesystem(c, id, anyVolume.Filesystem)) }, args(id, anyVolume.Filesystem), nil},
		{"record none", func(c ctx, b be) (any, error) { return none(b.RecordFilesystem(c, id, backend.Filesystem{})) }, args(id, backend.Filesystem{}), nil},
		{"get", func(c ctx, b be) (any, error) { return b.Volume(c, id) }, args(id), anyVolume},
		{"list", func(c ctx, b be) (any, error) { return collect(b.Volumes(c)) }, nil, []backend.Volume{bareVolume}},
		{"cut", func(c ctx, b be) (any, error) { return b.CreateSnapshot(c, cut) }, args(cut), anySnapshot},
		{"delete snapshot", func(c ctx, b be) (any, error) { return none(b.DeleteSnapshot(c, sid)) }, args(sid), nil},
		{"get snapshot", func(c ctx, b be) (any, error) { return b.Snapshot(c, sid) }, args(sid), anySnapshot},
		{"pause", func(c ctx, b be) (any, error) { return none(b.Pause(c, "p", []volume.ID{id, bareVolume.ID})) }, args(backend.PauseID("p"), []volume.ID{id, bareVolume.ID}), nil},
		{"resume", func(c ctx, b be) (any, error) { return none(b.Resume(c, "p")) }, args(backend.PauseID("p")), nil},
		{"attach", func(c ctx, b be) (any, error) { return b.Attach(c, attach) }, args(attach), anyDevice},
		{"detach", func(c ctx, b be) (any, error) { return none(b.Detach(c, id)) }, args(id), nil},
		{"allocated", func(c ctx, b be) (any, error) { return collect(b.Allocated(c, sid, 4096)) }, args(sid, int64(4096)), extents},
		{"delta", func(c ctx, b be) (any, error) { return collect(b.Delta(c, sid, sid, 0)) }, args(sid, sid, int64(0)), extents},
		{"capacity", func(c ctx, b be) (any, error) { return b.Capacity(c, anyClass) }, args(anyClass), backend.Capacity{AvailableBytes: 5, MaximumVolumeBytes: 3}},
		{"capacity bare", func(c ctx, b be) (any, error) { return b.Capacity(c, volume.Class{}) }, args(volume.Class{}), backend.Capacity{}},
		{"volume health", func(c ctx, b be) (any, error) { return b.VolumeHealth(c, id) }, args(id), anyHealth},
		{"health", func(c ctx, b be) (any, error) { return b.Health(c) }, nil, anyHealth},
	}
}

// TestCalls sees that every call brings all that it was given, both ways.
func TestCalls(t *testing.T) {
	var r recorder
	b := through(t, r.fake())
	for _, e := range exchanges() {
		r.got, r.give = nil, e.give
		got, err := e.do(t.Context(), b)
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		if want, _ := e.want.([]any); !reflect.DeepEqual(r.got, want) && len(want) > 0 {
			t.Errorf("%s: the backend got %+v, want %+v", e.name, r.got, want)
		}
		if !reflect.DeepEqual(got, e.give) {
			t.Errorf("%s: the caller got %+v, want %+v", e.name, got, e.give)
		}
	}
}

func TestInfo(t *testing.T) {
	want := Info{
		Node: testNode, Backends: []string{"local"}, MaxVolumes: 99, Version: "v1",
		Pools: []repository.Pool{{Name: "a", Type: volume.XFSPool}, {Name: "away"}},
	}
	n, _ := serveUnix(t, t.Context(), ServerOptions{Info: func(context.Context) Info { return want }}, &fake{})
	var d Dialer
	t.Cleanup(func() { d.Close() })
	got, err := d.Info(t.Context(), n)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v: want %+v", got, err, want)
	}
	n.ID = "other"
	if _, err := d.Info(t.Context(), n); !fault.Is(err, fault.Transient) {
		t.Errorf("for another node: got %v, want Transient", err)
	}
}

// TestContextsEnd sees the end of a caller's context in the backend, and its kind
// at the caller, for a call and for a stream.
func TestContextsEnd(t *testing.T) {
	ended := make(chan error, 1)
	entered := make(chan struct{}, 1)
	wait := func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	b := through(t, &fake{
		remove: func(ctx context.Context, _ volume.ID) error { return wait(ctx) },
		list: func(ctx context.Context) iter.Seq2[backend.Volume, error] {
			return func(yield func(backend.Volume, error) bool) { yield(backend.Volume{}, wait(ctx)) }
		},
	})
	for name, call := range map[string]func(context.Context) error{
		"call":   func(ctx context.Context) error { return b.DeleteVolume(ctx, volume.NewID()) },
		"stream": func(ctx context.Context) error { _, err := collect(b.Volumes(ctx)); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		if err := call(ctx); !fault.Is(err, fault.Canceled) {
			t.Errorf("%s, canceled: got %s, %v", name, fault.KindOf(err), err)
		}
		<-ended
		ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
		if err := call(ctx); !fault.Is(err, fault.Deadline) {
			t.Errorf("%s, timed out: got %s, %v", name, fault.KindOf(err), err)
		}
		<-entered
		<-ended
		<-ctx.Done() // the server's end of it may have been first
		cancel()
		if err := call(ctx); !fault.Is(err, fault.Deadline) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, over before: got %s, %v", name, fault.KindOf(err), err)
		}
	}
}

// TestPanic sees that a panic fails its call alone.
func TestPanic(t *testing.T) {
	b := through(t, &fake{
		list:   func(context.Context) iter.Seq2[backend.Volume, error] { panic("no list") },
		health: func(context.Context) ([]backend.Health, error) { return nil, nil },
	})
	if err := b.DeleteVolume(t.Context(), volume.NewID()); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v, want Internal", err)
	}
	if _, err := collect(b.Volumes(t.Context())); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v, want Internal", err)
	}
	if _, err := b.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoSuchBackend(t *testing.T) {
	n, _ := serveUnix(t, t.Context(), ServerOptions{}, &fake{})
	var d Dialer
	t.Cleanup(func() { d.Close() })
	b, err := d.Backend(n, "object")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Health(t.Context()); !fault.Is(err, fault.Unsupported) {
		t.Errorf("got %v, want Unsupported", err)
	}
	for _, name := range []string{"", "No", "a/b"} {
		if _, err := d.Backend(n, name); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, want Invalid", name, err)
		}
	}
}

// TestIDsThatCannotBe names nothing, without asking the backend.
func TestIDsThatCannotBe(t *testing.T) {
	b := through(t, &fake{})
	for _, id := range []string{"", "v-1", "../x", "s-" + string(anyVolume.ID[2:]), string(make([]byte, 10000))} {
		for name, err := range map[string]error{
			"delete":          b.DeleteVolume(t.Context(), volume.ID(id)),
			"detach":          b.Detach(t.Context(), volume.ID(id)),
			"delete snapshot": b.DeleteSnapshot(t.Context(), volume.SnapshotID("x"+id)),
		} {
			if err != nil {
				t.Errorf("%s %.20q: %v", name, id, err)
			}
		}
		if _, err := b.Volume(t.Context(), volume.ID(id)); !fault.Is(err, fault.NotFound) {
			t.Errorf("get %.20q: got %v, want NotFound", id, err)
		}
	}
}
