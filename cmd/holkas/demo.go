package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/demo"
	"github.com/holkas-io/holkas/pkg/volume"
)

func demoCommand() command {
	var o demo.Options
	s := &config.Set{}
	config.AddList(s, config.List[demo.Kind]{
		Name: "on", Usage: "what volumes live in: btrfs or xfs, a local pool, or object, the repository; may be given several times (default: all)", Into: &o.On,
		Parse: func(text string) (demo.Kind, error) { return oneOf(text, demo.Kinds...) },
	})
	config.AddOne(s, config.One[string]{
		Name: "filesystem", Usage: "what the volumes are formatted with: ext4, xfs or btrfs", Into: &o.Filesystem, Default: "ext4",
		Parse: func(text string) (string, error) {
			fs, err := oneOf(text, volume.Ext4, volume.XFS, volume.Btrfs)
			return string(fs), err
		},
	})
	config.AddOne(s, config.One[int]{
		Name: "scale", Usage: "pgbench's scale: how many times 100,000 accounts", Into: &o.Scale, Default: "20",
		Parse: func(text string) (int, error) {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > 100 {
				return 0, fmt.Errorf("%q: want a whole number from 1 to 100", text)
			}
			return n, nil
		},
	})
	config.AddOne(s, config.One[time.Duration]{
		Name: "load", Usage: "how long pgbench runs", Into: &o.Load, Default: "15s",
		Parse: func(text string) (time.Duration, error) {
			d, err := time.ParseDuration(text)
			if err != nil || d < 5*time.Second || d > time.Hour {
				return 0, fmt.Errorf("%q: want a time from 5s to 1h", text)
			}
			return d, nil
		},
	})
	config.AddOne(s, config.One[string]{
		Name: "dir", Usage: "the `directory`, on a disk with some GiB free, for its files (default: TMPDIR, or /var/tmp)", Into: &o.Dir, Parse: parsePath,
	})
	return command{
		name: "demo", short: "See it work on this machine",
		long: "Starts the three processes on this machine and runs PostgreSQL on a volume: fills it,\n" +
			"snapshots it under load, clones it, starts a second PostgreSQL on the clone, and checks\n" +
			"its tables. Prints each step with its time, and takes everything away at the end, also\n" +
			"after Ctrl-C. Needs root, loop devices, and the Debian packages xfsprogs, btrfs-progs,\n" +
			"e2fsprogs and postgresql; it says what is missing.",
		example:  "  holkas demo\n  holkas demo --on=xfs --filesystem=xfs --scale=50 --dir=/srv",
		settings: s,
		run:      func(ctx context.Context, s streams, _ string) error { return demo.Run(ctx, o, s.out) },
	}
}

func oneOf[T ~string](text string, all ...T) (T, error) {
	if !slices.Contains(all, T(text)) {
		return "", fmt.Errorf("%q: want one of %q", text, all)
	}
	return T(text), nil
}
