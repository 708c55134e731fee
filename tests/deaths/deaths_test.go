// Package deaths kills the engine under object volumes that are busy, again and
// again, and starts it anew: PostgreSQL on one of them sees a pause and no error and
// has every transaction that it said was committed, and fio on another one reads
// back what it wrote.
//
// 12 deaths by default; HOLKAS_SOAK=1 makes it 60 over some ten minutes. The seed is
// printed, and HOLKAS_SEED repeats it as far as the machine does.
package deaths

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/demo/postgres"
	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/tests/internal/build"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

const sessions = 4

var program string

func TestMain(m *testing.M) {
	built, remove, err := build.Holkas("")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = built
	code := m.Run()
	remove()
	os.Exit(code)
}

func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv("HOLKAS_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		lab.Must(t, err)
		seed = n
	}
	t.Logf("HOLKAS_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestEngine kills the engine under PostgreSQL and fio.
func TestEngine(t *testing.T) {
	deaths, longest := 12, 1500*time.Millisecond
	if os.Getenv("HOLKAS_SOAK") != "" {
		deaths, longest = 60, 15*time.Second
	}
	r, ctx := random(t), t.Context()
	l := lab.On(t, lab.Object, program, 0)
	database := l.Mounted(lab.VolumeRequest("database", 2*lab.GiB, site.Filesystem("ext4")))
	raw := l.Mounted(lab.VolumeRequest("raw", 256*lab.MiB, site.Block()))
	server, err := postgres.New(database.Target, filepath.Join(l.Dir, "postgres"))
	lab.Must(t, err)
	lab.Must(t, server.Initialise(ctx))
	lab.Must(t, server.Start(ctx))
	defer func() { _ = server.Stop(context.Background()) }()
	_, err = server.Query(ctx, "create table committed (session int, number int, filler text, primary key (session, number)); create extension amcheck")
	lab.Must(t, err)

	load := startSessions(t, server)
	verify := startFio(t, l, raw.Target)
	var pauses []time.Duration
	for i := range deaths {
		time.Sleep(time.Duration(r.Int64N(int64(longest)))) // poll: at any moment
		before := load.all()
		l.Engine.Kill()
		began := time.Now()
		time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond)))) // poll: dead for some time
		lab.Must(t, l.Engine.Start(ctx))
		lab.Eventually(t, func() error {
			if err := load.err(); err != nil {
				t.Fatal(err)
			}
			if load.all() <= before+sessions {
				return errors.New("no transaction was committed since the engine died")
			}
			return nil
		})
		pauses = append(pauses, time.Since(began))
		if i%6 == 5 {
			cloneIsWhole(l, database, load, i)
		}
	}
	t.Logf("%d deaths, %d transactions, from a death to the next commits: %s", deaths, load.all(), pauses)
	acknowledged := load.stop(t)
	verify.stop(t)
	for session, last := range acknowledged {
		count, err := server.Query(ctx, fmt.Sprintf("select count(*) from committed where session = %d and number <= %d", session, last))
		lab.Must(t, err)
		if count != strconv.Itoa(last) {
			t.Errorf("session %d: %s of %d committed transactions are there", session, count, last)
		}
	}
	_, err = server.Query(ctx, "select bt_index_check(c.oid, true) from pg_class c join pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relpersistence = 'p'")
	lab.Must(t, err)
	lab.Must(t, server.Stop(ctx))
	check(l, database)
	l.Remove(raw)
	l.Remove(database)
	lab.Must(t, l.Leftovers())
}

// cloneIsWhole clones the database under its load, and looks that the clone recovers
// with all that was committed before.
func cloneIsWhole(l *lab.Lab, origin *site.Mounted, load *load, i int) {
	t, ctx, name := l.T, l.T.Context(), fmt.Sprintf("clone-%d", i)
	before := load.counts()
	s := l.Snapshot(origin.Volume.VolumeId, name)
	request := lab.VolumeRequest(name, 2*lab.GiB, site.Filesystem("ext4"))
	request.VolumeContentSource = lab.FromSnapshot(s.SnapshotId)
	clone := l.Mounted(request)
	server, err := postgres.New(clone.Target, filepath.Join(l.Dir, name))
	lab.Must(t, err)
	lab.Must(t, server.ForgetOrigin())
	lab.Must(t, server.Start(ctx))
	for session, last := range before {
		count, err := server.Query(ctx, fmt.Sprintf("select count(*) from committed where session = %d and number <= %d", session, last))
		lab.Must(t, err)
		if count != strconv.Itoa(last) {
			t.Errorf("%s, session %d: %s of %d transactions are there that were committed before the snapshot", name, session, count, last)
		}
	}
	lab.Must(t, server.Stop(ctx))
	l.Remove(clone)
	_, err = l.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
	lab.Must(t, err)
}

// check looks at the unmounted filesystem of a volume.
func check(l *lab.Lab, m *site.Mounted) {
	l.T.Helper()
	ctx := l.T.Context()
	_, err := l.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: m.Volume.VolumeId, TargetPath: m.Target})
	lab.Must(l.T, err)
	source, err := exec.Command("findmnt", "--noheadings", "--output", "SOURCE", "--target", m.Staging).Output()
	lab.Must(l.T, err)
	out, err := exec.Command("umount", m.Staging).CombinedOutput()
	if err != nil {
		l.T.Fatalf("umount: %v: %s", err, out)
	}
	out, err = exec.Command("e2fsck", "-f", "-n", strings.TrimSpace(string(source))).CombinedOutput()
	if err != nil {
		l.T.Errorf("e2fsck: %v: %s", err, out)
	}
}

// load is sessions that commit one transaction after another, each a number.
type load struct {
	done   chan struct{}
	wg     sync.WaitGroup
	last   [sessions]atomic.Int64
	mu     sync.Mutex
	failed error
}

func startSessions(t *testing.T, server *postgres.Server) *load {
	l := &load{done: make(chan struct{})}
	for i := range sessions {
		cmd := server.Command(t.Context(), "psql", "-X", "-q", "-t", "-v", "ON_ERROR_STOP=1")
		in, err := cmd.StdinPipe()
		lab.Must(t, err)
		out, err := cmd.StdoutPipe()
		lab.Must(t, err)
		var said strings.Builder
		cmd.Stderr = &said
		lab.Must(t, cmd.Start())
		l.wg.Go(func() {
			err := l.session(i, in, bufio.NewReader(out))
			in.Close()
			if e := cmd.Wait(); err != nil || e != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.failed = errors.Join(l.failed, fmt.Errorf("session %d: %w: %w: %s", i, err, e, said.String()))
			}
		})
	}
	return l
}

func (l *load) session(i int, in io.Writer, out *bufio.Reader) error {
	for n := int64(1); ; n++ {
		select {
		case <-l.done:
			return nil
		default:
		}
		if _, err := fmt.Fprintf(in, "insert into committed values (%d, %d, repeat('%d', 200));\n\\echo %d\n", i, n, n, n); err != nil {
			return err
		}
		line, err := out.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) != strconv.FormatInt(n, 10) {
			return fmt.Errorf("transaction %d: %q", n, line)
		}
		l.last[i].Store(n)
	}
}

func (l *load) counts() (all [sessions]int) {
	for i := range all {
		all[i] = int(l.last[i].Load())
	}
	return all
}

func (l *load) all() (n int) {
	for _, last := range l.counts() {
		n += last
	}
	return n
}

func (l *load) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func (l *load) stop(t *testing.T) [sessions]int {
	close(l.done)
	l.wg.Wait()
	lab.Must(t, l.err())
	return l.counts()
}

// fio writes blocks of odd sizes at odd places and reads them back, all the time.
type fio struct {
	cmd *exec.Cmd
	out strings.Builder
}

func startFio(t *testing.T, l *lab.Lab, device string) *fio {
	f := &fio{}
	// Beyond its time it would end by itself: it is told to.
	f.cmd = exec.CommandContext(t.Context(), "fio", "--name=odd", "--filename="+device, "--rw=randwrite", "--bsrange=512-192k", "--bs_unaligned=0",
		"--blockalign=512", "--direct=1", "--ioengine=libaio", "--iodepth=8", "--size=200m", "--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1",
		"--verify_state_save=0", "--time_based", "--runtime=3600", "--fdatasync=32", "--rate=20m")
	f.cmd.Dir = l.Dir
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.out
	lab.Must(t, f.cmd.Start())
	t.Cleanup(func() { _ = f.cmd.Process.Kill() })
	return f
}

func (f *fio) stop(t *testing.T) {
	lab.Must(t, f.cmd.Process.Signal(os.Interrupt))
	err := f.cmd.Wait()
	if text := f.out.String(); err != nil && !strings.Contains(text, "terminating on signal") || strings.Contains(text, "verify: bad") || strings.Contains(text, "verify failed") || strings.Contains(text, "error=") {
		t.Errorf("fio: %v: %s", err, text)
	}
}
