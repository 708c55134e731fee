//go:build guest

package guest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pack makes the guest's first and only filesystem: the tests as /init, the
// kernel's modules, and the programs of this machine that the tests call, with
// the libraries that they need.
func pack(t *testing.T, archive, init string, k kernel) {
	root := t.TempDir()
	put := func(from, to string) {
		to = filepath.Join(root, to)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		b, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(to, b, 0o755))
	}
	put(init, "init")
	library := regexp.MustCompile(`/\S+\.so\S*`)
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("%v: install it", err)
		}
		put(path, "bin/"+name)
		for _, file := range library.FindAllString(output(t, "", "ldd", path), -1) {
			put(file, file)
		}
	}
	tree := filepath.Join("lib", "modules", k.release)
	for _, name := range modules {
		file := k.moduleFile(t, name)
		rel, err := filepath.Rel(k.root, file)
		must(t, err)
		put(file, rel)
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		put(filepath.Join(k.root, tree, name), filepath.Join(tree, name))
	}
	output(t, "", "depmod", "-b", root, k.release)
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "run", "etc"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(t, os.WriteFile(archive, cpio(t, root), 0o644))
}

// cpio is a tree of files as the kernel unpacks it: for each a head of numbers
// in hexadecimal, its name and its bytes, each padded with zeros to a multiple
// of 4 ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).
func cpio(t *testing.T, root string) []byte {
	var b bytes.Buffer
	entry := func(name string, mode uint32, content []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		for _, part := range [][]byte{append([]byte(name), 0), content} {
			b.Write(part)
			b.Write(make([]byte, -b.Len()&3))
		}
	}
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		switch {
		case err != nil || name == "":
			return err
		case d.IsDir():
			entry(name, 0o40755, nil)
			return nil
		}
		content, err := os.ReadFile(path)
		entry(name, 0o100755, content)
		return err
	}))
	entry("TRAILER!!!", 0, nil)
	return b.Bytes()
}
