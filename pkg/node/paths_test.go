package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestPathsThatAreRefused(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	for path, part := range map[string]string{
		"":                                 "empty",
		"relative/path":                    "absolute",
		"/etc":                             "below the kubelet's directory",
		h.kubelet:                          "below the kubelet's directory",
		h.kubelet + "x/a":                  "below the kubelet's directory",
		h.kubelet + "/":                    "without",
		h.kubelet + "/pods/../pods/a":      "..",
		h.kubelet + "/pods//a":             "without",
		h.kubelet + "/pods/a/":             "without",
		h.kubelet + "/pods/a\nb":           "control",
		h.kubelet + "/pods/a\x00b":         "control",
		h.kubelet + "/" + long(5000):       "bytes",
		h.kubelet + "/pods/" + long(300):   "too long",
		h.kubelet + "/" + long(300) + "/a": "too long",
	} {
		for call, err := range map[string]error{
			"stage":     h.node.Stage(t.Context(), StageRequest{ID: id, StagingPath: path}),
			"unstage":   h.node.Unstage(t.Context(), id, path),
			"publish":   h.node.Publish(t.Context(), PublishRequest{ID: id, StagingPath: h.staging(id), TargetPath: path}),
			"from":      h.node.Publish(t.Context(), PublishRequest{ID: id, StagingPath: path, TargetPath: h.target("ok")}),
			"unpublish": h.node.Unpublish(t.Context(), id, path),
		} {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "_path: ") {
				t.Errorf("%s %.80q: got %v, want Invalid with %q", call, path, err, part)
			}
		}
	}
	h.must(h.unstage(id))
}

func long(n int) string { return strings.Repeat("x", n) }

// A container that can write below the kubelet's directory puts symbolic links
// where a path leads, to make the node mount over, or remove, what it must not.
func TestSymbolicLinksAreNotFollowed(t *testing.T) {
	h := newHouse(t)
	outside := filepath.Join(filepath.Dir(h.kubelet), "outside")
	h.must(os.MkdirAll(filepath.Join(outside, "victim"), 0o750))
	h.must(os.Symlink(outside, filepath.Join(h.kubelet, "absolute")))
	h.must(os.Symlink("../outside", filepath.Join(h.kubelet, "relative")))
	h.must(os.Symlink("pods", filepath.Join(h.kubelet, "inside")))
	h.must(os.Symlink(filepath.Join(outside, "victim"), h.target("last")))
	h.must(os.Symlink("nowhere", h.target("dangling")))
	h.must(os.Symlink("/proc/self/root/etc", filepath.Join(h.kubelet, "magic")))
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	for _, path := range []string{"absolute/victim", "relative/victim", "inside/a", "pods/last", "pods/dangling", "magic/a"} {
		path = filepath.Join(h.kubelet, path)
		for _, use := range []Use{{}, {Block: true}} {
			h.want(h.node.Stage(t.Context(), StageRequest{ID: id, StagingPath: path, Use: use}), fault.Invalid, "symbolic link")
		}
		h.want(h.node.Publish(t.Context(), PublishRequest{ID: id, StagingPath: h.staging(id), TargetPath: path}), fault.Invalid, "symbolic link")
		h.want(h.node.Unpublish(t.Context(), id, path), fault.Invalid, "symbolic link")
		h.want(h.node.Unstage(t.Context(), id, path), fault.Invalid, "symbolic link")
		_, err := h.node.Stats(t.Context(), id, path)
		h.want(err, fault.NotFound, "symbolic link")
	}
	if _, err := os.Lstat(filepath.Join(outside, "victim")); err != nil {
		t.Error("the victim was removed")
	}
	if got := len(h.mountsBelow()); got != 1 {
		t.Errorf("%d mounts, want the staged one", got)
	}
	h.must(h.unstage(id))
}

// What was walked is used by descriptor: a path that changes its meaning
// afterwards leads nowhere else.
func TestAPathThatIsSwappedAfterTheCheck(t *testing.T) {
	h := newHouse(t)
	outside := filepath.Join(filepath.Dir(h.kubelet), "outside")
	h.must(os.MkdirAll(filepath.Join(outside, "a"), 0o750))
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	h.must(os.Mkdir(h.target("pod"), 0o750))
	h.node.here = func(place string) {
		if place == "node: made the target" {
			h.must(os.Rename(h.target("pod"), h.target("moved")))
			h.must(os.Symlink(outside, h.target("pod")))
		}
	}
	h.must(h.publish(id, "pod/a", Use{}))
	h.node.here = func(string) {}
	table, err := mounts()
	h.must(err)
	if _, mounted := table.at(filepath.Join(outside, "a")); mounted {
		t.Error("mounted outside of the kubelet's directory")
	}
	if _, mounted := table.at(h.target("moved/a")); !mounted {
		t.Error("not mounted on the directory that was checked")
	}
	h.must(h.unpublish(id, "moved/a"))
	h.must(h.unstage(id))
}

// The kubelet's directory itself may be a symbolic link, and either spelling
// comes in requests.
func TestALinkedKubeletDirectory(t *testing.T) {
	h := newHouse(t)
	link := h.kubelet + "-link"
	h.must(os.Symlink(h.kubelet, link))
	h.node.tree.dir = link
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	h.must(h.node.Stage(t.Context(), StageRequest{ID: id, StagingPath: filepath.Join(link, "staging", string(id))}))
	h.must(h.node.Publish(t.Context(), PublishRequest{
		ID: id, StagingPath: filepath.Join(link, "staging", string(id)), TargetPath: filepath.Join(link, "pods", "a"), Use: Use{Exclusive: true},
	}))
	h.must(h.publish(id, "a", Use{Exclusive: true}))
	h.want(h.publish(id, "b", Use{Exclusive: true}), fault.Precondition, "published at")
	h.must(h.unpublish(id, "a"))
	h.must(h.unstage(id))
}

func TestMountTableEscapes(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	h.must(h.publish(id, `a b\c	d`[:5], Use{})) // a blank and a backslash
	h.must(h.publish(id, `a b\c	d`[:5], Use{}))
	h.must(h.unpublish(id, `a b\c	d`[:5]))
	h.must(h.unstage(id))
	for in, want := range map[string]string{`a\040b`: "a b", `\134`: `\`, `a\`: `a\`, `\9`: `\9`, `\777`: `\777`, "": ""} {
		if got := unescape(in); got != want {
			t.Errorf("unescape %q: got %q, want %q", in, got, want)
		}
	}
}

// Whatever the path, what is walked lies below the tree and is no link.
func FuzzPaths(f *testing.F) {
	dir := f.TempDir()
	tr := tree{dir: filepath.Join(dir, "kubelet")}
	for _, name := range []string{"kubelet", "kubelet/pods", "kubelet/pods/p", "outside"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o750); err != nil {
			f.Fatal(err)
		}
	}
	for link, to := range map[string]string{"kubelet/out": "../outside", "kubelet/pods/up": "..", "kubelet/pods/abs": dir} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			f.Fatal(err)
		}
	}
	for _, seed := range []string{"pods/p", "pods/new", "../outside", "out/x", "pods/up/pods", "pods/abs", "", ".", "/", "pods/\xff", "pods/a\x00", "//pods", "pods/./p"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		for _, path := range []string{path, tr.dir + "/" + path, tr.dir + path} {
			p, err := tr.find("target_path", path)
			if err != nil {
				if k := fault.KindOf(err); k != fault.Invalid && k != fault.NotFound {
					t.Fatalf("%q: %v is %v", path, err, k)
				}
				continue
			}
			if p.real != path || !strings.HasPrefix(p.real, tr.dir+"/") || p.is(unix.S_IFLNK) {
				t.Errorf("%q: walked to %q", path, p.real)
			}
			p.Close()
		}
	})
}

// Whatever the flags, nothing gets through that is not listed.
func FuzzMountFlags(f *testing.F) {
	for _, seed := range []string{
		"noatime", "noatime,nodiratime", "bind", "rbind", "remount,rw", "move", "loop=/dev/loop0", "X-mount.mkdir", "x-systemd.automount",
		"device=/dev/sda", "logdev=/dev/sda", "journal_path=/etc/passwd", "subvol=../x", "errors=panic", "commit=5", "commit=", "commit",
		`context="system_u:object_r:container_file_t:s0:c1,c2"`, `context="a`, "compress=zstd:3", "ro=1", "data=\n", "nobarrier", ",,,", "=", "=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, flag string) {
		for _, fs := range filesystems {
			o, err := parseFlags(fs, []string{flag})
			if err != nil {
				if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), "mount_flags: ") {
					t.Fatalf("%q: %v", flag, err)
				}
				continue
			}
			for _, p := range o.filesystem {
				if !listed(fs, p) || strings.ContainsFunc(p.value, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("%s %q: let through %+v", fs, flag, p)
				}
			}
		}
	})
}

func listed(fs volume.Filesystem, p option) bool {
	key := p.key
	if p.hasValue {
		key += "="
	}
	for _, known := range append(append([]string(nil), everyOption...), fsOptions[fs]...) {
		if known == key {
			return true
		}
	}
	return false
}

func TestMountFlags(t *testing.T) {
	for _, c := range []struct {
		flags   []string
		refused string // empty: none
	}{
		{flags: nil},
		{flags: []string{"defaults", "noatime", "nodev,nosuid", "commit=30", "discard"}},
		{flags: []string{`context="system_u:object_r:container_file_t:s0:c1,c2"`}},
		{flags: []string{"bind", "ro"}, refused: `"bind"`},
		{flags: []string{"noatime,remount"}, refused: `"remount"`},
		{flags: []string{"loop=secret"}, refused: `"loop"`},
		{flags: []string{"x-systemd.requires=a", "move"}, refused: `"x-systemd.requires", "move"`},
		{flags: []string{"errors=panic"}, refused: `"errors"`},
		{flags: []string{"journal_path=/x"}, refused: `"journal_path"`},
		{flags: []string{"noatime=1"}, refused: `"noatime"`},
		{flags: []string{"compress=zstd"}, refused: `"compress"`}, // of another filesystem
		{flags: []string{strings.Repeat("noatime,", 600)}, refused: "4800 bytes"},
	} {
		err := ValidateMountFlags(volume.Ext4, c.flags)
		if c.refused == "" && err != nil || c.refused != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%q: got %v, want %q refused", c.flags, err, c.refused)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells a value", err)
		}
	}
}

// Each option that is let through is one that the kernel knows.
func TestTheKernelTakesWhatIsLetThrough(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		values := map[string]string{
			"commit=": "30", "data=": "ordered", "data_err=": "abort", "errors=": "continue", "init_itable=": "10", "inode_readahead_blks=": "32",
			"journal_ioprio=": "3", "max_batch_time=": "15000", "min_batch_time=": "0", "max_dir_size_kb=": "1000", "mb_optimize_scan=": "1",
			"resgid=": "0", "resuid=": "0", "stripe=": "16", "allocsize=": "64k", "logbsize=": "32k", "logbufs=": "8", "compress=": "zstd:3",
			"compress-force=": "lzo", "discard=": "async", "max_inline=": "2048", "metadata_ratio=": "0", "space_cache=": "v2", "thread_pool=": "2",
		}
		id := h.engine.create(sizeFor(fs))
		h.must(h.stage(id, Use{Filesystem: fs}))
		h.must(h.unstage(id))
		for _, known := range append(fsOptions[fs], "sync", "dirsync", "lazytime") {
			flag := known
			if strings.HasSuffix(known, "=") {
				value, ok := values[known]
				if !ok {
					continue // sunit and swidth go together, by the device's geometry
				}
				flag += value
			}
			if err := h.stage(id, Use{MountFlags: []string{flag}}); err != nil {
				h.Errorf("%s: %v", flag, err)
			}
			h.must(h.unstage(id))
		}
	})
}
