package dir

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// disk is a system that makes the real calls and keeps, beside them, what a power
// loss would leave: names are durable when their folder was synced after they
// were made, content when its file was synced.
type disk struct {
	kernel
	base *node // of the directory that rootPath is
	path string

	calls   int      // that changed something, so far
	failAt  int      // fail this call and, if dead, all that follow
	after   bool     // fail after the call took effect
	dead    bool     // power is lost at failAt
	failure error    // what a failing call returns
	log     []string // the calls
}

type node struct {
	isFolder      bool
	unsettled     bool             // live; with the name, it is durable at once at the latest
	live, durable map[string]*node // of a folder
	content       string           // of a file
	synced        string
	isSynced      bool
}

func newFolderNode() *node {
	return &node{isFolder: true, live: map[string]*node{}, durable: map[string]*node{}}
}

var errPower = errors.New("power lost")

func newDisk(path string) *disk {
	return &disk{base: newFolderNode(), path: path, failure: errPower}
}

// step makes a call unless this is where the disk fails.
func (d *disk) step(op, name string, do func() error) error {
	d.calls++
	d.log = append(d.log, op+" "+name)
	if d.failAt == 0 || d.calls < d.failAt || d.calls > d.failAt && !d.dead {
		return do()
	}
	if d.calls == d.failAt && d.after {
		if err := do(); err != nil {
			return err
		}
	}
	return d.failure
}

func (d *disk) find(path string) *node {
	n := d.base
	relative, _ := filepath.Rel(d.path, path)
	for _, part := range strings.Split(relative, "/") {
		if part != "." && n != nil {
			n = n.live[part]
		}
	}
	return n
}

func (d *disk) create(path string) (f file, err error) {
	err = d.step("create", path, func() error {
		if f, err = d.kernel.create(path); err != nil {
			return err
		}
		n := &node{}
		d.find(filepath.Dir(path)).live[filepath.Base(path)] = n
		f = &diskFile{f, d, n, path}
		return nil
	})
	return f, err
}

func (d *disk) enter(path string) (folder, error) {
	f, err := d.kernel.enter(path)
	if err != nil {
		return nil, err
	}
	return &diskFolder{f, d, d.find(path), path}, nil
}

func (d *disk) remove(path string) error {
	return d.step("remove", path, func() error {
		if err := d.kernel.remove(path); err != nil {
			return err
		}
		delete(d.find(filepath.Dir(path)).live, filepath.Base(path))
		return nil
	})
}

type diskFile struct {
	file
	d    *disk
	n    *node
	path string
}

func (f *diskFile) Write(p []byte) (int, error) {
	err := f.d.step("write", f.path, func() error {
		f.n.content += string(p)
		_, err := f.file.Write(p)
		return err
	})
	return len(p), err
}

func (f *diskFile) Sync() error {
	return f.d.step("sync file", f.path, func() error {
		f.n.synced, f.n.isSynced = f.n.content, true
		return nil
	})
}

type diskFolder struct {
	folder
	d    *disk
	n    *node
	path string
}

func (f *diskFolder) act(op, name string, do func() error, model func()) error {
	return f.d.step(op, filepath.Join(f.path, name), func() error {
		err := do()
		if err == nil {
			model()
		}
		return err
	})
}

func (f *diskFolder) settle() error {
	return f.act("settle", "", f.folder.settle, func() { f.n.unsettled = false })
}

func (f *diskFolder) mkdir(name string) error {
	return f.act("mkdir", name, func() error { return f.folder.mkdir(name) }, func() {
		f.n.live[name] = newFolderNode()
		f.n.live[name].unsettled = true
	})
}

func (f *diskFolder) rmdir(name string) error {
	return f.act("rmdir", name, func() error { return f.folder.rmdir(name) }, func() { delete(f.n.live, name) })
}

func (f *diskFolder) link(from, name string) error {
	return f.act("link", name, func() error { return f.folder.link(from, name) }, func() { f.n.live[name] = f.d.find(from) })
}

func (f *diskFolder) rename(from, name string) error {
	n := f.d.find(from)
	return f.act("rename", name, func() error { return f.folder.rename(from, name) }, func() {
		f.n.live[name] = n
		delete(f.d.find(filepath.Dir(from)).live, filepath.Base(from))
	})
}

func (f *diskFolder) unlink(name string) error {
	return f.act("unlink", name, func() error { return f.folder.unlink(name) }, func() { delete(f.n.live, name) })
}

func (f *diskFolder) Sync() error {
	return f.act("sync folder", "", func() error { return nil }, func() { f.n.durable = maps.Clone(f.n.live) })
}

// hasty is the real system without its syncs.
type hasty struct{ kernel }

type hastyFile struct{ file }

type hastyFolder struct{ folder }

func (hastyFile) Sync() error   { return nil }
func (hastyFolder) Sync() error { return nil }

func (h hasty) create(path string) (file, error) {
	f, err := h.kernel.create(path)
	return hastyFile{f}, err
}

func (h hasty) enter(path string) (folder, error) {
	f, err := h.kernel.enter(path)
	return hastyFolder{f}, err
}

// loss is one of the states that a power loss may leave: what was not synced may
// be there or not, and content may be torn.
type loss struct {
	name                     string
	keepNames                bool
	keepContent, tearContent bool
}

var losses = []loss{
	{name: "all that is unsynced is lost"},
	{name: "names are kept, content is lost", keepNames: true},
	{name: "names are kept, content is torn", keepNames: true, tearContent: true},
	{name: "all is kept", keepNames: true, keepContent: true},
}

// lose writes what a power loss leaves to a new directory.
func (d *disk) lose(t *testing.T, l loss) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "after")
	if err := d.base.write(path, l); err != nil {
		t.Fatal(err)
	}
	return path
}

func (n *node) write(path string, l loss) error {
	if !n.isFolder {
		return os.WriteFile(path, []byte(n.remains(l)), 0o600)
	}
	mode := os.FileMode(0o700)
	if n.unsettled {
		mode |= os.ModeSticky
	}
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	names := n.durable
	if l.keepNames {
		names = n.live
	}
	for name, child := range names {
		if err := child.write(filepath.Join(path, name), l); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) remains(l loss) string {
	switch {
	case l.keepContent || n.isSynced && n.synced == n.content:
		return n.content
	case l.tearContent:
		return n.content[:len(n.content)/2]
	}
	return n.synced
}
