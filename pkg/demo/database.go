package demo

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/demo/postgres"
	"github.com/holkas-io/holkas/pkg/demo/site"
)

func (d *demo) database(m *site.Mounted, name string) (*postgres.Server, error) {
	p, err := postgres.New(m.Target, filepath.Join(d.site.Dir, name))
	if err == nil {
		d.onExit(p.Stop)
	}
	return p, err
}

func (d *demo) startPostgres(ctx context.Context) (_ string, err error) {
	if d.postgres, err = d.database(d.origin, "postgres"); err != nil {
		return "", err
	}
	if err := d.postgres.Initialise(ctx); err != nil {
		return "", err
	}
	if err := d.postgres.Start(ctx); err != nil {
		return "", err
	}
	return d.postgres.Query(ctx, "select version()")
}

func (d *demo) fill(ctx context.Context) (string, error) {
	_, err := d.postgres.Run(ctx, "pgbench", "-i", "-q", "-s", strconv.Itoa(d.Scale))
	return "", err
}

// load is a pgbench that runs beside the steps.
type load struct {
	cmd  *exec.Cmd
	out  strings.Builder
	done chan struct{}
	err  error
}

func (d *demo) startLoad(ctx context.Context) (string, error) {
	l := &load{done: make(chan struct{})}
	l.cmd = d.postgres.Command(ctx, "pgbench", "-c", "8", "-j", "2", "-T", strconv.Itoa(int(d.Load.Seconds())))
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	if err := l.cmd.Start(); err != nil {
		return "", err
	}
	go func() {
		l.err = l.cmd.Wait()
		close(l.done)
	}()
	d.load = l
	d.onExit(func(context.Context) error {
		_ = l.cmd.Process.Kill() // it may have ended
		<-l.done
		return nil
	})
	return fmt.Sprintf("for %s", d.Load), nil
}

// runs reports a load that has ended.
func (l *load) runs() error {
	select {
	case <-l.done:
		return errors.Join(fmt.Errorf("the load ended early: %s", l.out.String()), l.err)
	default:
		return nil
	}
}

// waitForLoad waits until the load has committed some hundred transactions, or,
// on a slow disk, until a third of its time is over and it has committed any.
func (d *demo) waitForLoad(ctx context.Context) (string, error) {
	third := time.Now().Add(d.Load / 3)
	for {
		count, err := d.postgres.Query(ctx, "select count(*) from pgbench_history")
		if err != nil {
			return "", err
		}
		if n, _ := strconv.Atoi(count); n >= 500 || n > 0 && time.Now().After(third) {
			return count + " transactions so far", nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-d.load.done:
			return "", d.load.runs()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *demo) startSecond(ctx context.Context) (_ string, err error) {
	if d.second, err = d.database(d.clone, "postgres-clone"); err != nil {
		return "", err
	}
	if err := d.second.ForgetOrigin(); err != nil {
		return "", err
	}
	return "it recovered as after a power loss", d.second.Start(ctx)
}

func (d *demo) checkSums(ctx context.Context) (string, error) { return d.second.Sums(ctx) }

func (d *demo) checkIndexes(ctx context.Context) (string, error) {
	if _, err := d.second.Query(ctx, "create extension amcheck"); err != nil {
		return "", err
	}
	_, err := d.second.Run(ctx, "pg_amcheck", "--heapallindexed", "--parent-check", "postgres")
	return "no corruption found", err
}

func (d *demo) finishLoad(ctx context.Context) (string, error) {
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-d.load.done:
	}
	if d.load.err != nil {
		return "", errors.Join(d.load.err, errors.New(d.load.out.String()))
	}
	sums, err := d.postgres.Sums(ctx)
	if rate := d.load.rate(); rate != "" {
		d.figure("transactions a second", rate)
		sums += fmt.Sprintf(", %s a second", rate)
	}
	return sums, err
}

// rate returns the transactions a second, as pgbench counts them.
func (l *load) rate() string {
	for line := range strings.Lines(l.out.String()) {
		if rate, found := strings.CutPrefix(line, "tps = "); found {
			rate, _, _ = strings.Cut(rate, ".")
			return rate
		}
	}
	return ""
}
