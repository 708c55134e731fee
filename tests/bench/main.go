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
	"syscall"

	"github.com/holkas-io/holkas/pkg/demo/site"
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
	for _, pool := range []volume.PoolType{volume.XFSPool, volume.BtrfsPool} {
		if err := benchPool(ctx, program, pool, rounds, pattern, report); err != nil {
			return fmt.Errorf("%s pool: %w", pool, err)
		}
	}
	return nil
}

// bench is one site under measurement.
type bench struct {
	*site.Site
	site.Clients
	*report
	pool   string
	rounds int
	wanted *regexp.Regexp
}

func (b *bench) name(parts string) string { return b.pool + "/" + parts }

func (b *bench) want(name string) bool { return b.wanted.MatchString(b.name(name)) }

func benchPool(ctx context.Context, program string, pool volume.PoolType, rounds int, wanted *regexp.Regexp, r *report) error {
	s, err := site.Start(ctx, site.Options{
		Binary: program,
		Pools:  []site.PoolOptions{{Name: "bench", Type: pool, SizeBytes: 160 * gib}},
	})
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	clients, err := s.Clients(0)
	if err != nil {
		return err
	}
	b := &bench{Site: s, Clients: clients, report: r, pool: string(pool), rounds: rounds, wanted: wanted}
	for _, part := range []func(context.Context) error{b.rpcs, b.snapshots, b.fio, b.pgbench} {
		if err := part(ctx); err != nil {
			s.Logs(os.Stderr, 4000)
			return err
		}
	}
	return nil
}
