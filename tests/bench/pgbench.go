package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holkas-io/holkas/pkg/demo/postgres"
	"github.com/holkas-io/holkas/pkg/demo/site"
)

// pgbench measures transactions of a PostgreSQL on a volume against one on an
// equal filesystem on a plain loop device of the same pool.
func (b *bench) pgbench(ctx context.Context) error {
	const name = "pgbench, 8 clients"
	if !b.want(name) {
		return nil
	}
	m, err := b.mounted(ctx, "pgbench", 4*gib, site.Filesystem("ext4"))
	if err != nil {
		return err
	}
	defer b.remove(ctx, m)
	plain, err := newPlainLoop(ctx, filepath.Join(b.plain, "plain-pgbench"), 4*gib)
	if err != nil {
		return err
	}
	defer plain.close()
	dir := filepath.Join(b.Dir, "plain-mount")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if _, err := command(ctx, "mkfs.ext4", "-q", "-m0", plain.device); err != nil {
		return err
	}
	if _, err := command(ctx, "mount", plain.device, dir); err != nil {
		return err
	}
	defer command(context.WithoutCancel(ctx), "umount", dir)
	rates := make([][]float64, 2)
	for round := range b.rounds {
		for i, mount := range []string{m.Target, dir} {
			rate, err := transactions(ctx, mount, filepath.Join(b.Dir, fmt.Sprintf("pg-%d", i)), round == 0)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	b.rates(b.name(name+" / plain loop"), "tps", rates[0], rates[1])
	return nil
}

// transactions runs a server on a mounted volume for one pgbench of 10 s.
func transactions(ctx context.Context, mount, sockets string, first bool) (rate float64, err error) {
	server, err := postgres.New(mount, sockets)
	if err != nil {
		return 0, err
	}
	if first {
		if err := server.Initialise(ctx); err != nil {
			return 0, err
		}
	}
	if err := server.Start(ctx); err != nil {
		return 0, err
	}
	defer server.Stop(context.WithoutCancel(ctx))
	if first {
		if _, err := server.Run(ctx, "pgbench", "-i", "-q", "-s", "20"); err != nil {
			return 0, err
		}
	}
	if _, err := server.Query(ctx, "checkpoint"); err != nil {
		return 0, err
	}
	out, err := server.Run(ctx, "pgbench", "-c", "8", "-j", "2", "-T", "10")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "tps" {
			return strconv.ParseFloat(fields[2], 64)
		}
	}
	return 0, fmt.Errorf("pgbench printed no rate: %s", out)
}
