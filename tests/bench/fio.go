package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/demo/site"
)

const fioBytes = 2 * gib

// job is one fio job; its rate is IOPS, or MiB/s for large blocks.
type job struct {
	name string
	unit string
	args []string
}

var jobs = []job{
	{"4k random read, depth 1", "IOPS", []string{"--rw=randread", "--bs=4k", "--iodepth=1"}},
	{"4k random read, depth 32", "IOPS", []string{"--rw=randread", "--bs=4k", "--iodepth=32"}},
	{"4k random write, depth 1", "IOPS", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1"}},
	{"4k random write, depth 32", "IOPS", []string{"--rw=randwrite", "--bs=4k", "--iodepth=32"}},
	{"4k random write + fsync", "IOPS", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", "--fdatasync=1"}},
	{"1M sequential read", "MiB/s", []string{"--rw=read", "--bs=1M", "--iodepth=8"}},
	{"1M sequential write", "MiB/s", []string{"--rw=write", "--bs=1M", "--iodepth=8"}},
}

// fio measures a raw block volume against a plain loop device on the same pool
// and a plain file of the same size there.
func (b *bench) fio(ctx context.Context) error {
	var wanted []job
	for _, j := range jobs {
		if b.want("fio " + j.name) {
			wanted = append(wanted, j)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	m, err := b.mounted(ctx, "fio", fioBytes, site.Block())
	if err != nil {
		return err
	}
	defer b.remove(ctx, m)
	plain, err := newPlainLoop(ctx, filepath.Join(b.plain, "plain-loop"), fioBytes)
	if err != nil {
		return err
	}
	defer plain.close()
	file := filepath.Join(b.plain, "plain-file")
	if err := preallocate(ctx, file, fioBytes); err != nil {
		return err
	}
	defer os.Remove(file)
	targets := []string{m.Target, plain.device, file}
	for _, target := range targets { // written once: reads find data, writes find written extents
		if _, err := runFio(ctx, target, job{args: []string{"--rw=write", "--bs=1M", "--iodepth=8"}}, 0); err != nil {
			return err
		}
	}
	for _, j := range wanted {
		rates := make([][]float64, len(targets))
		for range b.rounds {
			for i, target := range targets {
				rate, err := runFio(ctx, target, j, 3)
				if err != nil {
					return err
				}
				rates[i] = append(rates[i], rate)
			}
		}
		b.rates(b.name("fio "+j.name+" / plain loop"), j.unit, rates[0], rates[1])
		b.rates(b.name("fio "+j.name+" / plain file"), j.unit, rates[0], rates[2])
	}
	return nil
}

func runFio(ctx context.Context, target string, j job, seconds int) (float64, error) {
	args := append([]string{"--name=bench", "--filename=" + target, "--direct=1", "--ioengine=libaio", "--output-format=json", "--size=" + fmt.Sprint(fioBytes), "--allow_file_create=0", "--randrepeat=0", "--norandommap"}, j.args...)
	if seconds > 0 {
		args = append(args, "--time_based", fmt.Sprintf("--runtime=%d", seconds), "--ramp_time=0.5")
	}
	cmd := exec.CommandContext(ctx, "fio", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("fio %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	type direction struct {
		IOPS float64 `json:"iops"`
		BW   float64 `json:"bw_bytes"`
	}
	var result struct {
		Jobs []struct{ Read, Write direction }
	}
	if i := bytes.IndexByte(out, '{'); i > 0 {
		out = out[i:]
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, err
	}
	sum := direction{result.Jobs[0].Read.IOPS + result.Jobs[0].Write.IOPS, result.Jobs[0].Read.BW + result.Jobs[0].Write.BW}
	if j.unit == "MiB/s" {
		return sum.BW / float64(mib), nil
	}
	return sum.IOPS, nil
}

// plainLoop is the baseline: a preallocated file and a loop device with direct
// I/O, made by the machine's own tools.
type plainLoop struct{ file, device string }

func newPlainLoop(ctx context.Context, file string, sizeBytes int64) (*plainLoop, error) {
	if err := preallocate(ctx, file, sizeBytes); err != nil {
		return nil, err
	}
	device, err := command(ctx, "losetup", "--find", "--show", "--direct-io=on", file)
	return &plainLoop{file, strings.TrimSpace(device)}, err
}

func (p *plainLoop) close() {
	_, _ = command(context.Background(), "losetup", "--detach", p.device)
	os.Remove(p.file)
}

// preallocate makes a file as a thick volume's is made: on btrfs without data
// copy-on-write.
func preallocate(ctx context.Context, file string, sizeBytes int64) error {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	_, _ = command(ctx, "chattr", "+C", file) // of btrfs; others refuse it
	_, err := command(ctx, "fallocate", "--length", fmt.Sprint(sizeBytes), file)
	return err
}

func command(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// create makes a volume; thin ones are for sparse sizes.
func (b *bench) create(ctx context.Context, name string, sizeBytes int64, c *csi.VolumeCapability, parameters map[string]string, source *csi.VolumeContentSource) (*csi.Volume, error) {
	reply, err := b.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: sizeBytes},
		VolumeCapabilities: []*csi.VolumeCapability{c}, Parameters: b.parameters(parameters), VolumeContentSource: source,
	})
	return reply.GetVolume(), err
}

func (b *bench) mounted(ctx context.Context, name string, sizeBytes int64, c *csi.VolumeCapability) (*site.Mounted, error) {
	v, err := b.create(ctx, name, sizeBytes, c, nil, nil)
	if err != nil {
		return nil, err
	}
	m := b.At(v, c, name)
	return m, b.Mount(ctx, b.Site, m)
}

func (b *bench) remove(ctx context.Context, m *site.Mounted) {
	ctx = context.WithoutCancel(ctx)
	err := b.Unmount(ctx, b.Site, m)
	if err == nil {
		_, err = b.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: m.Volume.VolumeId})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: remove", m.Volume.VolumeId, err)
	}
}
