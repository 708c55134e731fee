package engine_test

import (
	"errors"
	"testing"

	"github.com/holkas-io/holkas/pkg/vlog"
)

func TestStamps(t *testing.T) {
	p := make([]byte, vlog.BlockSize)
	want := content{0, 0, 4, 4, 7, 0, 0, 1 << 31}
	for i, write := range want {
		if write > 0 {
			stamp(p[i*sector:(i+1)*sector], 9*vlog.BlockSize+int64(i)*sector, write)
		}
	}
	if got, err := decode(p, 9); got != want || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := decode(p, 10); err == nil {
		t.Error("another block's bytes pass")
	}
	for i := range p {
		p[i] ^= 1
		if got, err := decode(p, 9); err == nil && got == want {
			t.Errorf("byte %d is wrong, and passes", i)
		}
		p[i] ^= 1
	}
}

// TestOracle: which states the oracle takes for a prefix, and which not.
func TestOracle(t *testing.T) {
	full := func(write uint32) (c content) { return atom{mask: 0xff, write: write}.on(c) }
	half := func(l, h uint32) content { return atom{mask: 0xf0, write: h}.on(full(l)) }
	history := func() *oracle {
		o := newOracle([]vlog.Block{1, 2, 3}, map[vlog.Block]content{3: full(9)})
		begin := func(b vlog.Block, write uint32, first, n int64) *op {
			return o.begin("", int64(b)*vlog.BlockSize+first*sector, n*sector, write)
		}
		done := func(p *op) { o.end(p, nil) }
		done(begin(1, 1, 0, 8))                               // ticks 1, 2
		done(begin(2, 2, 0, 8))                               // 3, 4
		done(begin(1, 0, 0, 8))                               // 5, 6: zeros
		low, high := begin(1, 3, 0, 4), begin(1, 4, 4, 4)     // 7, 8: at once
		done(low)                                             // 9
		done(high)                                            // 10
		first, second := begin(2, 5, 0, 8), begin(2, 6, 0, 8) // 11, 12: at once
		done(first)                                           // 13
		done(second)                                          // 14
		begin(1, 7, 0, 8)                                     // 15, does not end
		o.tick()
		return o
	}
	for name, row := range map[string]struct {
		s        state
		from, at int // 0: no prefix
	}{
		"nothing":                    {state{1: {}, 2: {}, 3: full(9)}, 0, 1},
		"not the initial state":      {state{1: {}, 2: {}, 3: {}}, 0, 0},
		"the first":                  {state{1: full(1), 2: {}, 3: full(9)}, 0, 3},
		"second without the first":   {state{1: {}, 2: full(2)}, 0, 8},
		"second, first, no zeros":    {state{1: full(1), 2: full(2)}, 0, 5},
		"but the zeros are promised": {state{1: full(1), 2: full(2)}, 7, 0},
		"half of what was at once":   {state{1: half(3, 0), 2: full(2)}, 0, 8},
		"the other half":             {state{1: half(0, 4), 2: full(2)}, 0, 8},
		"both":                       {state{1: half(3, 4), 2: full(2)}, 0, 12},
		"one of both is lost":        {state{1: half(3, 0), 2: full(5)}, 0, 0},
		"either last":                {state{1: half(3, 4), 2: full(5)}, 15, 16},
		"other last":                 {state{1: half(3, 4), 2: full(6)}, 15, 16},
		"what did not end":           {state{1: full(7), 2: full(6)}, 16, 16},
		"what ended is missing":      {state{1: full(7), 2: full(2)}, 0, 0},
		"foreign":                    {state{1: full(8)}, 0, 0},
		"another block's":            {state{1: full(2)}, 0, 0},
	} {
		o := history()
		at, err := o.cut(row.s, row.from, o.now)
		if at != row.at || (err == nil) != (row.at > 0) {
			t.Errorf("%s: got %d, %v; want %d", name, at, err, row.at)
		}
	}
}

// TestOracleSettles: after a state was found, what is not in it does not come back.
func TestOracleSettles(t *testing.T) {
	o := newOracle([]vlog.Block{0}, nil)
	write := func(n uint32, err error) {
		p := o.begin("write", 0, vlog.BlockSize, n)
		o.end(p, err)
	}
	full := func(n uint32) content { return atom{mask: 0xff, write: n}.on(content{}) }
	read := func(n uint32) error { return o.read(0, o.tick(), full(n)) }
	write(1, nil)
	write(2, errors.New("unknown"))
	if read(1) != nil || read(2) == nil {
		t.Error("what failed was not done, as a read saw: it comes back")
	}
	write(3, errors.New("unknown"))
	write(4, nil)
	if read(3) == nil || read(4) != nil || read(1) == nil {
		t.Error("an old write is read, or the last one is not")
	}
	at, err := o.cut(state{0: full(3)}, 0, o.tick())
	if err != nil {
		t.Fatal(err)
	}
	o.settle(state{0: full(3)}, at)
	if read(4) == nil || read(3) != nil {
		t.Error("what was dropped comes back, or the rest does not")
	}
	write(5, nil)
	if _, err := o.cut(state{0: full(4)}, 0, o.tick()); err == nil {
		t.Error("what was dropped is a prefix")
	}
}
