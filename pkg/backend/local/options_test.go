package local

import (
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestOptionsSayAllFaultsAtOnce, each by the name of its field.
func TestOptionsSayAllFaultsAtOnce(t *testing.T) {
	o := Options{
		StateDir: "state", MaxVolumes: -1, PauseLimit: -time.Second,
		Pools: []PoolConfig{
			{Name: "A B", Path: "/a"},
			{Name: "b"},
			{Name: "c", Path: "/c", Device: "/dev/sdc"},
			{Name: "d", Path: "relative"},
			{Name: "e", Path: "/e/../f"},
			{Name: "f", Device: "sdf", MountPath: "/f"},
			{Name: "g", Device: "/dev/sdg"},
			{Name: "h", Path: "/h", Format: volume.XFSPool},
			{Name: "i", Device: "/dev/sdi", MountPath: "/i", Format: "zfs"},
			{Name: "j", Path: "/j"},
			{Name: "j", Path: "/j"},
			{Name: "k", Path: "/"},
		},
	}
	err := o.Validate()
	if !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"attacher: none", "maxVolumes: -1", "pauseLimit: -1s", `stateDir: "state"`,
		"pools[0].name", "pools[1].path: empty", `pools[2].path: "/c", and device`, `pools[3].path: "relative"`,
		`pools[4].path: "/e/../f"`, `pools[5].device: "sdf"`, `pools[6].mountPath`, `pools[7].mountPath: "", and format`,
		`pools[8].format: "zfs"`, `pools[10].name: "j"`, `pools[10]: "/j": is another pool's folder`, `pools[11].path: "/"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant it to say %q", err, want)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 16 {
		t.Errorf("%d faults, want 16:\n%v", n, err)
	}
	if err := (Options{}).Validate(); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "pools: none") {
		t.Error(err)
	}
	good := Options{Attacher: &loop.Attacher{}, Pools: []PoolConfig{
		{Name: "a", Path: "/a"}, {Name: "b", Device: "/dev/b", MountPath: "/b", Format: volume.BtrfsPool},
	}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// TestClassesChooseTheirPool by name and by type, and say what there is.
func TestClassesChooseTheirPool(t *testing.T) {
	t.Parallel()
	h := newHouse(t, volume.XFSPool, 384*mib)
	other := newHouse(t, volume.BtrfsPool, 512*mib)
	other.close()
	h.options.Pools = append(h.options.Pools, PoolConfig{Name: "safe", Path: other.root})
	h.reopen()
	defer h.close() // before the other's filesystem is unmounted
	for _, c := range []struct {
		pool string
		is   volume.PoolType
		want string
	}{
		{"", volume.XFSPool, "fast"}, {"", volume.BtrfsPool, "safe"}, {"safe", "", "safe"}, {"fast", volume.XFSPool, "fast"},
		{"fast", volume.BtrfsPool, ""}, {"none", "", ""},
	} {
		class := thickClass()
		class.Pool, class.PoolType = c.pool, c.is
		capacity, capacityErr := h.Capacity(h.Context(), class)
		h.must(capacityErr)
		v, err := h.CreateVolume(h.Context(), request(class, mib))
		if c.want == "" {
			h.want(err, fault.Exhausted, "fast (xfs), safe (btrfs)")
		} else if err != nil || v.Pool != c.want {
			h.Errorf("%+v: %+v, %v", c, v, err)
		}
		if (capacity.AvailableBytes > 0) != (c.want != "") {
			h.Errorf("%+v: capacity %+v", c, capacity)
		}
	}
	// A clone lives with its source.
	class := thickClass()
	class.Pool = "safe"
	source := h.create(class, mib)
	class.Pool = "fast"
	r := request(class, mib)
	r.Source.Volume = source
	_, err := h.CreateVolume(h.Context(), r)
	h.want(err, fault.Invalid, volume.ParamPool, `want "safe"`)
	r = request(thickClass(), 8192+mib)
	r.Source.Volume = source
	if v, err := h.CreateVolume(h.Context(), r); err != nil || v.Pool != "safe" || v.SizeBytes != 8192+mib {
		h.Errorf("%+v, %v", v, err)
	}
	class.Pool = "fast"
	large := h.create(class, 2*mib)
	r = request(thickClass(), mib)
	r.Source.Volume = large
	_, err = h.CreateVolume(h.Context(), r)
	h.want(err, fault.OutOfRange, "at least the 2097152")
	// With one pool away the other works, and NotFound is not said.
	h.close()
	if err := other.withoutFilesystem(func() {
		h.open()
		h.create(thickClass(), mib)
		_, err := h.Volume(h.Context(), volume.NewID())
		h.want(err, fault.Transient, "pool safe")
		if _, err := h.Volume(h.Context(), large); err != nil {
			h.Error(err)
		}
		h.close()
	}); err != nil {
		h.Error(err)
	}
	h.open()
}
