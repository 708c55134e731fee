// Command bench measures Holkas against a plain loop device on the same pool
// and a plain file, in one run and in turn, so that the ratios hold on a machine
// whose speed drifts.
//
//	go run ./bench            # from tests/, as root; make bench does it
//	BENCH='fio|pgbench'       # only the lines whose names match
//	BENCH_OUT=lines.json      # the same lines as JSON, one object a line
//	BENCH_ROUNDS=3            # rounds of each measurement; the median counts
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/build"
)

const (
	mib int64 = 1 << 20
	gib int64 = 1 << 30
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	pattern, err := regexp.Compile(os.Getenv("BENCH"))
	if err != nil {
		return fmt.Errorf("BENCH: %w", err)
	}
	rounds := 3
	if text := os.Getenv("BENCH_ROUNDS"); text != "" {
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			return fmt.Errorf("BENCH_ROUNDS: %q: want a number above 0", text)
		}
	}
	program, remove, err := build.Holkas("")
	if err != nil {
		return err
	}
	defer remove()
	report, err := newReport(os.Stdout, os.Getenv("BENCH_OUT"))
	if err != nil {
		return err
	}
	defer report.close()
	for _, k := range kinds {
		if !k.pattern(pattern) {
			continue
		}
		if err := benchKind(ctx, program, k, rounds, pattern, report); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return nil
}

// kind is what volumes live in: a pool, or a bucket of a server on the same disk,
// which may look as far away as its flags say.
type kind struct {
	name   string
	pool   volume.PoolType // none: object volumes
	server []string
}

// far is a store in the same region: 20 ms for each request, 1 Gbit/s.
var kinds = []kind{
	{name: "xfs", pool: volume.XFSPool},
	{name: "btrfs", pool: volume.BtrfsPool},
	{name: "object"},
	{name: "object-far", server: []string{"-delay", "20ms", "-bandwidth", "125e6"}},
}

// pattern reports whether any line of the kind may be wanted: those that begin with
// another kind's name are not.
func (k kind) pattern(wanted *regexp.Regexp) bool {
	for _, other := range kinds {
		if other.name != k.name && strings.HasPrefix(wanted.String(), other.name+"/") {
			return false
		}
	}
	return true
}

// bench is one site under measurement.
type bench struct {
	*site.Site
	site.Clients
	*report
	kind
	plain  string // a directory on the disk that the volumes are on, for what they are measured against
	rounds int
	wanted *regexp.Regexp
}

func (b *bench) name(parts string) string { return b.kind.name + "/" + parts }

func (b *bench) want(name string) bool { return b.wanted.MatchString(b.name(name)) }

func (b *bench) backend() string {
	if b.pool != "" {
		return volume.BackendLocal
	}
	return volume.BackendObject
}

// parameters returns a class's parameters, these and the backend.
func (b *bench) parameters(more map[string]string) map[string]string {
	if b.pool != "" {
		return more
	}
	return map[string]string{volume.ParamBackend: volume.BackendObject}
}

func benchKind(ctx context.Context, program string, k kind, rounds int, wanted *regexp.Regexp, r *report) (err error) {
	o := site.Options{Binary: program}
	if k.pool != "" {
		o.Pools = []site.PoolOptions{{Name: "bench", Type: k.pool, SizeBytes: 160 * gib}}
	} else {
		server, err := s3test.Start(k.server...)
		if err != nil {
			return err
		}
		defer server.Stop()
		keys, err := os.MkdirTemp("", "holkas-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(keys)
		if err := server.Bucket("bench"); err != nil {
			return err
		}
		if o.Repository, err = server.URL("bench/site", keys); err != nil {
			return err
		}
		o.Object = true
		o.Args = map[string][]string{"engine": {"--journal-size=4Gi", "--cache-size=8Gi"}}
	}
	s, err := site.Start(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	clients, err := s.Clients(0)
	if err != nil {
		return err
	}
	b := &bench{Site: s, Clients: clients, report: r, kind: k, rounds: rounds, wanted: wanted, plain: s.Dir}
	if k.pool != "" {
		b.plain = s.PoolPath("bench")
	}
	for _, part := range []func(context.Context) error{b.rpcs, b.snapshots, b.fio, b.pgbench} {
		if err := part(ctx); err != nil {
			s.Logs(os.Stderr, 4000)
			return err
		}
	}
	return nil
}
