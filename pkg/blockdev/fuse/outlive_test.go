package fuse_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// kills is how often an engine is killed under load; HOLKAS_SOAK=1 makes it 500.
func kills() int {
	if os.Getenv("HOLKAS_SOAK") != "" {
		return 500
	}
	return 25
}

// load writes to a device, and reads all of it back, until it is told to end.
type load struct {
	*exec.Cmd
	out bytes.Buffer
}

func startLoad(t testing.TB, device string) *load {
	t.Helper()
	l := &load{Cmd: fioCommand(device, "--rw=randwrite", "--bsrange=512-64k", "--iodepth=16", "--size=16m", "--offset_increment=16m", "--numjobs=2",
		"--verify=crc32c", "--verify_backlog=64", "--loops=100000", "--fdatasync=32", "--randrepeat=0", "--thinktime=1000", "--thinktime_blocks=16")}
	l.Stdout, l.Stderr = &l.out, &l.out
	must(t, l.Start())
	t.Cleanup(func() { _ = l.Process.Kill() })
	before := writes(t, device)
	until(t, "fio has begun", func() bool { return writes(t, device) > before+100 })
	return l
}

// writes is how many requests to write a device has answered.
func writes(t testing.TB, device string) (n int) {
	t.Helper()
	stat, err := os.ReadFile("/sys/block/" + filepath.Base(device) + "/stat")
	must(t, err)
	n, err = strconv.Atoi(strings.Fields(string(stat))[4])
	must(t, err)
	return n
}

// finish ends it; it must not have met an error.
func (l *load) finish(t testing.TB) {
	t.Helper()
	_ = l.Process.Signal(syscall.SIGINT)
	if err := l.Wait(); err != nil && (l.ProcessState.ExitCode() != 128 || bytes.Contains(l.out.Bytes(), []byte("error"))) {
		t.Errorf("fio: %v\n%s", err, l.out.String())
	}
	if !bytes.Contains(l.out.Bytes(), []byte("err= 0")) || bytes.Contains(l.out.Bytes(), []byte("verify:")) {
		t.Errorf("fio:\n%s", l.out.String())
	}
}

// TestKilled: the engine dies at any moment under load; whoever uses the device
// sees a pause.
func TestKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir, id, file := house(t), newID(), makeFile(t, size)
	e := startEngine(t, dir, id, file)
	device := e.device
	l := startLoad(t, device.Path)
	for range kills() {
		<-time.After(time.Duration(random.IntN(120)) * time.Millisecond)
		e.kill()
		if e = startEngine(t, dir, id, file); e.device != device {
			t.Fatalf("got %+v, want %+v", e.device, device)
		}
	}
	l.finish(t)
	must(t, e.quit())
}

// TestUpgrade: one engine ends and the next begins, under load.
func TestUpgrade(t *testing.T) {
	dir, id, file := house(t), newID(), makeFile(t, size)
	e := startEngine(t, dir, id, file)
	l := startLoad(t, e.device.Path)
	for range 5 {
		<-time.After(50 * time.Millisecond) // of load
		must(t, e.quit())
		next := startEngine(t, dir, id, file)
		if next.device != e.device {
			t.Fatalf("got %+v, want %+v", next.device, e.device)
		}
		e = next
	}
	l.finish(t)
	must(t, e.quit())
}

// TestOneAtATime: while an engine has the folder, no other does.
func TestOneAtATime(t *testing.T) {
	dir := house(t)
	e := startEngine(t, dir, newID(), makeFile(t, size))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := fuse.Open(ctx, fuse.Options{Dir: dir}); !fault.Is(err, fault.Busy) {
		t.Errorf("got %v, want busy", err)
	}
	must(t, e.quit())
}

// TestPause: without an engine, requests wait, and whoever only looks does not.
func TestPause(t *testing.T) {
	dir, id, file := house(t), newID(), makeFile(t, size)
	e := startEngine(t, dir, id, file)
	f, err := os.OpenFile(e.device.Path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	e.kill()
	synced := make(chan error, 1)
	go func() {
		if _, err := f.WriteAt([]byte("text"), 512); err != nil {
			synced <- err
		}
		synced <- f.Sync()
	}()
	run(t, "df")
	run(t, "losetup", "--list")
	disk := openDisk(t, file)
	server := open(t, dir)
	if found, err := server.Find(t.Context()); err != nil || len(found) != 1 || found[id] != e.device {
		t.Errorf("found %+v, %v, want %+v", found, err, e.device)
	}
	until(t, "a request waits", func() bool { return fault.Is(server.Detach(t.Context(), id), fault.InUse) })
	select {
	case err := <-synced:
		t.Fatalf("without an engine: %v", err)
	default:
	}
	again, err := server.Attach(t.Context(), id, disk, discard)
	if err != nil || again != e.device {
		t.Errorf("got %+v, %v, want %+v", again, err, e.device)
	}
	if found, err := server.Find(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("found %v, %v, after it was attached", found, err)
	}
	must(t, <-synced)
	body, err := os.ReadFile(file)
	must(t, err)
	if string(body[512:516]) != "text" {
		t.Errorf("the disk has %q", body[512:516])
	}
}

// TestDetachOfPaused: a device that an earlier engine left needs no disk to be
// taken away; one that is open stays.
func TestDetachOfPaused(t *testing.T) {
	dir, id, file := house(t), newID(), makeFile(t, size)
	e := startEngine(t, dir, id, file)
	e.kill()
	server := open(t, dir)
	f, err := os.Open(e.device.Path)
	must(t, err)
	err = server.Detach(t.Context(), id)
	f.Close()
	if !fault.Is(err, fault.InUse) {
		t.Errorf("open: got %v, want in use", err)
	}
	for range 2 {
		must(t, server.Detach(t.Context(), id))
	}
	if left := devices(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestFilesystems: a filesystem in use over many deaths is whole.
func TestFilesystems(t *testing.T) {
	for fs, check := range map[string][]string{"ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"}} {
		t.Run(fs, func(t *testing.T) {
			dir, id, file, at := house(t), newID(), makeFile(t, 512<<20), t.TempDir()
			e := startEngine(t, dir, id, file)
			run(t, "mkfs."+fs, "-q", e.device.Path)
			run(t, "mount", e.device.Path, at)
			defer exec.Command("umount", at).Run()
			writer := exec.Command("sh", "-c", `set -e; i=0; while [ ! -e stop ]; do i=$((i+1)); dd if=/dev/urandom of=f$((i%20)) bs=64k count=8 conv=fsync status=none; sha256sum f$((i%20)) > s$((i%20)); done`)
			writer.Dir = at
			must(t, writer.Start())
			for range 5 {
				<-time.After(60 * time.Millisecond) // of load
				e.kill()
				e = startEngine(t, dir, id, file)
			}
			must(t, os.WriteFile(at+"/stop", nil, 0o600))
			must(t, writer.Wait())
			run(t, "umount", at) // so that all is read from the device
			run(t, "mount", e.device.Path, at)
			sums := exec.Command("sh", "-c", "cat s* | sha256sum --quiet -c")
			sums.Dir = at
			if out, err := sums.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			run(t, "umount", at)
			run(t, check[0], append(check[1:], e.device.Path)...)
			must(t, e.quit())
		})
	}
}

// TestKeeperDies: while its engine lives, that is nobody's loss.
func TestKeeperDies(t *testing.T) {
	dir, id, file := house(t), newID(), makeFile(t, size)
	e := startEngine(t, dir, id, file)
	first := keeper(dir)
	for _, sign := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		must(t, syscall.Kill(first, sign)) // none of these ends it
	}
	l := startLoad(t, e.device.Path)
	for range 3 {
		if now := keeper(dir); now != first {
			t.Fatalf("the keeper is process %d, want %d", now, first)
		}
		must(t, syscall.Kill(first, syscall.SIGKILL))
		until(t, "there is another keeper", func() bool { now := keeper(dir); return now != 0 && now != first })
		first = keeper(dir)
	}
	until(t, "it holds the device", func() bool { return holds(first) })
	e.kill()
	next := startEngine(t, dir, id, file)
	if next.device != e.device {
		t.Errorf("got %+v, want %+v", next.device, e.device)
	}
	l.finish(t)
	must(t, next.quit())
}

// TestStay: a keeper that somebody else started is used, and outlives all; while
// it is away the engine has one of its own.
func TestStay(t *testing.T) {
	dir, id, file := house(t), newID(), makeFile(t, size)
	stay := exec.Command(os.Args[0], fuse.Command, "stay", dir)
	stay.Stderr = os.Stderr
	must(t, stay.Start())
	defer func() { stay.Process.Kill(); stay.Wait() }()
	until(t, "it listens", func() bool { _, err := os.Stat(dir + "/keeper"); return err == nil })
	e := startEngine(t, dir, id, file)
	if keeper(dir) != 0 || !holds(stay.Process.Pid) {
		t.Error("the engine has started a keeper of its own")
	}
	device := e.device
	e.kill()
	if e = startEngine(t, dir, id, file); e.device != device {
		t.Errorf("got %+v, want %+v", e.device, device)
	}
	must(t, stay.Process.Kill())
	_ = stay.Wait()
	until(t, "there is another keeper", func() bool { now := keeper(dir); return now != 0 && holds(now) })
	again := exec.Command(os.Args[0], fuse.Command, "stay", dir)
	must(t, again.Start())
	defer func() { again.Process.Kill(); again.Wait() }()
	e.kill()
	if e = startEngine(t, dir, id, file); e.device != device {
		t.Errorf("got %+v, want %+v", e.device, device)
	}
	fio(t, device.Path, "--rw=randwrite", "--bs=4k", "--size=1m", "--verify=crc32c")
	must(t, e.quit())
	server := open(t, dir)
	must(t, server.Detach(t.Context(), id))
	must(t, server.Close(t.Context()))
	until(t, "the standing keeper listens", func() bool { return has(again.Process.Pid, "socket:") })
	e = startEngine(t, dir, id, file)
	if keeper(dir) != 0 || !holds(again.Process.Pid) {
		t.Error("the engine has started a keeper of its own")
	}
	must(t, e.quit())
	server = open(t, dir)
	must(t, server.Detach(t.Context(), id))
	must(t, server.Close(t.Context()))
}

// holds reports whether a keeper has a device.
func holds(pid int) bool { return has(pid, "/dev/fuse") }

// has reports whether a process has a descriptor of a kind.
func has(pid int, what string) bool {
	all, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, fd := range all {
		if name, _ := os.Readlink(fd); strings.HasPrefix(name, what) {
			return true
		}
	}
	return false
}

// TestDead: engine and keeper are dead, and so is the device. It is cleaned away,
// even if a dead filesystem is mounted on it, and a new one is given.
func TestDead(t *testing.T) {
	for name, after := range map[string]func(t *testing.T, server *fuse.Server, id volume.ID, disk blockdev.Disk){
		"attach": func(t *testing.T, server *fuse.Server, id volume.ID, disk blockdev.Disk) {
			d, err := server.Attach(t.Context(), id, disk, discard)
			must(t, err)
			fio(t, d.Path, "--rw=randread", "--size=1m")
			run(t, "e2fsck", "-p", d.Path)
		},
		"detach": func(t *testing.T, server *fuse.Server, id volume.ID, _ blockdev.Disk) {
			must(t, server.Detach(t.Context(), id))
		},
	} {
		for _, mounted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir, id, file, at := house(t), newID(), makeFile(t, size), t.TempDir()
				e := startEngine(t, dir, id, file)
				run(t, "mkfs.ext4", "-q", e.device.Path)
				if mounted {
					run(t, "mount", e.device.Path, at)
				}
				must(t, syscall.Kill(keeper(dir), syscall.SIGSTOP)) // or it would be replaced
				pid := keeper(dir)
				e.kill()
				must(t, syscall.Kill(pid, syscall.SIGKILL))
				until(t, "the device is dead", func() bool {
					out, err := fioCommand(e.device.Path, "--rw=randread", "--size=1m").CombinedOutput()
					return err != nil && bytes.Contains(out, []byte("Input/output error"))
				})
				disk := openDisk(t, file)
				server := open(t, dir)
				if found, err := server.Find(t.Context()); err != nil || len(found) != 0 {
					t.Errorf("found %v, %v", found, err)
				}
				after(t, server, id, disk)
				if mounted {
					run(t, "umount", at)
				}
				must(t, server.Detach(t.Context(), id))
				if left := devices(t); len(left) != 0 {
					t.Errorf("left: %v", left)
				}
			})
		}
	}
}

// TestKilledAtAnyTime: whatever an engine was about when it died, the next one
// can end it.
func TestKilledAtAnyTime(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir, id, file := house(t), newID(), makeFile(t, size)
	for range kills() {
		cmd := exec.Command(os.Args[0], "engine", dir, string(id), file)
		in, err := cmd.StdinPipe()
		must(t, err)
		must(t, cmd.Start())
		<-time.After(time.Duration(random.IntN(120)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		in.Close()
		if random.IntN(2) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		server, err := fuse.Open(ctx, fuse.Options{Dir: dir})
		must(t, err)
		must(t, server.Detach(ctx, id))
		must(t, server.Close(ctx))
		cancel()
		if left := devices(t); len(left) != 0 {
			t.Fatalf("left: %v", left)
		}
	}
}
