package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printer prints steps as they go, and a table of them at the end: a column for
// each run.
type printer struct {
	w     io.Writer
	runs  []string
	names []string // of the rows, in the order of their first appearance
	cells map[[2]string]string
	steps int // of this run
}

func newPrinter(w io.Writer) *printer {
	return &printer{w: w, cells: map[[2]string]string{}}
}

// begin begins a run.
func (p *printer) begin(run, title string) {
	p.runs, p.steps = append(p.runs, run), 0
	fmt.Fprintf(p.w, "\n%s\n", title)
}

// step runs one step, prints it with its time, and keeps that for the table.
func (p *printer) step(ctx context.Context, name string, do func(context.Context) (string, error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("interrupted before the step %q (%w)", name, context.Cause(ctx))
	}
	p.steps++
	fmt.Fprintf(p.w, "%3d. %s ... ", p.steps, name)
	began := time.Now()
	result, err := do(ctx)
	took := round(time.Since(began))
	if err != nil && ctx.Err() != nil {
		fmt.Fprintf(p.w, "interrupted after %s\n", took)
		return fmt.Errorf("interrupted in the step %q (%w)", name, context.Cause(ctx))
	}
	if err != nil {
		fmt.Fprintf(p.w, "FAILED after %s\n", took)
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(p.w, "%s\n", took)
	if result != "" {
		fmt.Fprintf(p.w, "     %s\n", result)
	}
	p.figure(name, took.String())
	return nil
}

// figure keeps a figure of this run for the table.
func (p *printer) figure(name, value string) {
	key := [2]string{name, p.runs[len(p.runs)-1]}
	known := false
	for _, run := range p.runs {
		_, had := p.cells[[2]string{name, run}]
		known = known || had
	}
	if !known {
		p.names = append(p.names, name)
	}
	p.cells[key] = value
}

// table prints what was kept.
func (p *printer) table() {
	fmt.Fprintln(p.w)
	tw := tabwriter.NewWriter(p.w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(tw, "on\t%s\n", strings.Join(p.runs, "\t"))
	for _, name := range p.names {
		fmt.Fprint(tw, name)
		for _, run := range p.runs {
			fmt.Fprintf(tw, "\t%s", p.cells[[2]string{name, run}])
		}
		fmt.Fprintln(tw)
	}
	_ = tw.Flush()
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}
