//go:build guest

package guest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// kernel is an unpacked kernel package.
type kernel struct {
	image   string // what boots
	root    string // above lib/modules
	release string
}

// fetchKernel unpacks the newest stock kernel that the distribution offers, or
// the one of the package that GUEST_KERNEL names, into the user's cache.
func fetchKernel(t *testing.T) kernel {
	name := os.Getenv("GUEST_KERNEL")
	if name == "" {
		var names []string
		for line := range strings.Lines(output(t, "", "apt-cache", "pkgnames", "linux-image-")) {
			line = strings.TrimSpace(line)
			rest, _ := strings.CutPrefix(line, "linux-image-")
			// A meta package has a version of two numbers.
			if release, ok := strings.CutSuffix(rest, "-cloud-amd64"); ok && strings.Count(release, ".") == 2 && !strings.Contains(release, "rc") {
				names = append(names, line)
			}
		}
		if len(names) == 0 {
			t.Fatal("apt offers no linux-image-*-cloud-amd64: run apt-get update")
		}
		name = strings.Fields(output(t, "", "bash", "-c", "printf '%s\\n' "+strings.Join(names, " ")+" | sort -Vr"))[0]
	}
	cache, err := os.UserCacheDir()
	must(t, err)
	root := filepath.Join(cache, "holkas-guest", name)
	if _, err := os.Stat(root); err != nil {
		must(t, os.MkdirAll(filepath.Dir(root), 0o755))
		work, err := os.MkdirTemp(filepath.Dir(root), "fetch-")
		must(t, err)
		defer os.RemoveAll(work)
		output(t, work, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name)
		packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
		must(t, err)
		tree := filepath.Join(work, "tree")
		output(t, work, "dpkg-deb", "-x", packages[0], tree)
		must(t, os.Rename(tree, root))
	}
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	must(t, err)
	if len(images) != 1 {
		t.Fatalf("%s has the kernels %q, want one: remove the directory", root, images)
	}
	release, _ := strings.CutPrefix(filepath.Base(images[0]), "vmlinuz-")
	t.Logf("kernel %s", release)
	return kernel{images[0], root, release}
}

// moduleFile finds a module's file below lib/modules/<release>.
func (k kernel) moduleFile(t *testing.T, name string) string {
	var found []string
	dir := filepath.Join(k.root, "lib", "modules", k.release)
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if base, _, _ := strings.Cut(filepath.Base(path), ".ko"); base == name && base != filepath.Base(path) {
			found = append(found, path)
		}
		return err
	}))
	if len(found) != 1 {
		t.Fatalf("module %s: found %q", name, found)
	}
	slices.Sort(found)
	return found[0]
}
