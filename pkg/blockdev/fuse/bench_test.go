package fuse_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
)

// BenchmarkRatio measures fio on a device of an engine whose disk is a file,
// against a loop device on a file beside it, by turns, and prints the medians of
// five. Everything that is slower is this package's doing.
//
//	go test -run=^$ -bench=Ratio -benchtime=1x ./pkg/blockdev/fuse
func BenchmarkRatio(b *testing.B) {
	const size = 1 << 30
	plain := makeFile(b, size)
	var attacher loop.Attacher
	base, err := attacher.Attach(b.Context(), plain, blockdev.Options{Discard: true})
	must(b, err)
	defer attacher.Detach(b.Context(), plain)
	e := startEngine(b, house(b), newID(), makeFile(b, size))
	defer e.quit()
	for _, device := range []string{base.Path, e.device.Path} { // no first write to a block is measured
		fio(b, device, "--rw=write", "--bs=1m", "--iodepth=8")
	}
	for _, w := range []struct {
		name string
		args []string
	}{
		{"4k-randwrite-qd1", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1"}},
		{"4k-randwrite-fsync-qd1", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", "--fdatasync=1"}},
		{"4k-randwrite-qd32", []string{"--rw=randwrite", "--bs=4k", "--iodepth=32"}},
		{"4k-randread-qd1", []string{"--rw=randread", "--bs=4k", "--iodepth=1"}},
		{"4k-randread-qd32", []string{"--rw=randread", "--bs=4k", "--iodepth=32"}},
		{"1m-write-qd8", []string{"--rw=write", "--bs=1m", "--iodepth=8"}},
		{"1m-read-qd8", []string{"--rw=read", "--bs=1m", "--iodepth=8"}},
	} {
		b.Run(w.name, func(b *testing.B) {
			for range b.N {
				var plain, fuse []float64
				for range 5 {
					plain = append(plain, perSecond(b, base.Path, w.args))
					fuse = append(fuse, perSecond(b, e.device.Path, w.args))
				}
				slices.Sort(plain)
				slices.Sort(fuse)
				b.ReportMetric(plain[2], "loop/s")
				b.ReportMetric(fuse[2], "fuse/s")
				b.ReportMetric(fuse[2]/plain[2], "ratio")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// perSecond is how many requests fio gets answered.
func perSecond(b *testing.B, device string, args []string) float64 {
	b.Helper()
	args = append([]string{"--name=t", "--ioengine=libaio", "--direct=1", "--filename=" + device, "--time_based", "--runtime=2", "--output-format=json"}, args...)
	out, err := exec.Command("fio", args...).Output()
	if err != nil {
		b.Fatalf("fio: %v\n%s", err, out)
	}
	var result struct {
		Jobs []struct {
			Read, Write struct{ IOPS float64 }
		}
	}
	if err := json.Unmarshal(out, &result); err != nil || len(result.Jobs) != 1 {
		b.Fatal(fmt.Errorf("%s: %w", out, err))
	}
	return result.Jobs[0].Read.IOPS + result.Jobs[0].Write.IOPS
}
