package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// line is one measurement. Ratio is value over baseline for rates and the
// baseline's over the value's for times, so that more is always better; 0 where
// there is no baseline.
type line struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline float64 `json:"baseline,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"`
	Spread   float64 `json:"spread"` // (max-min)/median over the rounds
}

type report struct {
	table io.Writer
	out   *os.File
}

func newReport(table io.Writer, out string) (*report, error) {
	r := &report{table: table}
	if out != "" {
		f, err := os.Create(out)
		if err != nil {
			return nil, fmt.Errorf("BENCH_OUT: %w", err)
		}
		r.out = f
	}
	fmt.Fprintln(table, "| measurement | value | unit | baseline | ratio | spread |")
	fmt.Fprintln(table, "|---|---:|---|---:|---:|---:|")
	return r, nil
}

func (r *report) close() {
	if r.out != nil {
		r.out.Close()
	}
}

func (r *report) add(l line) {
	number := func(f float64) string {
		switch {
		case f == 0:
			return ""
		case f >= 100:
			return fmt.Sprintf("%.0f", f)
		}
		return fmt.Sprintf("%.3g", f)
	}
	ratio := ""
	if l.Ratio != 0 {
		ratio = fmt.Sprintf("%.2f", l.Ratio)
	}
	fmt.Fprintf(r.table, "| %s | %s | %s | %s | %s | %.0f %% |\n", l.Name, number(l.Value), l.Unit, number(l.Baseline), ratio, l.Spread*100)
	if r.out != nil {
		_ = json.NewEncoder(r.out).Encode(l)
	}
}

// rates adds a line of a rate against a baseline measured in turn with it: the
// ratio is the median of the pairs' ratios.
func (r *report) rates(name, unit string, values, baselines []float64) {
	var ratios []float64
	for i := range values {
		ratios = append(ratios, values[i]/baselines[i])
	}
	r.add(line{name, median(values), unit, median(baselines), median(ratios), spread(values)})
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func spread(v []float64) float64 { return (slices.Max(v) - slices.Min(v)) / median(v) }
