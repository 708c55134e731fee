package fuse_test

import (
	"os/exec"
	"testing"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/volume"
)

const size = 64 << 20

func fio(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("fio", append([]string{"--name=t", "--ioengine=libaio", "--direct=1"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("fio: %v\n%s", err, out)
	}
	return string(out)
}

// TestBytes: what is written is read, in odd sizes at odd places, by many at
// once.
func TestBytes(t *testing.T) {
	server, id, disk := open(t, house(t)), volume.NewID(), makeDisk(t, size)
	d, err := server.Attach(t.Context(), id, disk, blockdev.Options{Discard: true})
	must(t, err)
	if d.SizeBytes != size || d.ReadOnly || !d.DirectIO || !d.Discard {
		t.Errorf("got %+v", d)
	}
	fio(t, "--filename="+d.Path, "--rw=randwrite", "--bsrange=512-1048576", "--iodepth=32", "--size=64m", "--verify=crc32c", "--randseed=1")
	must(t, server.Detach(t.Context(), id))
}
