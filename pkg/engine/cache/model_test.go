package cache

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
)

// TestHistories: whatever happens to the process and to the disk, a read returns
// the object's bytes, by one fetch at most, and the index stays sound.
func TestHistories(t *testing.T) {
	rounds := 2
	if soak {
		rounds = 300
	}
	var all Stats
	for range rounds {
		rapid.Check(t, func(t *rapid.T) { history(t, &all) })
	}
	t.Logf("%+v", all)
	if all.Hits == 0 || all.Misses == 0 || all.BadLines == 0 || all.Evictions == 0 || all.Errors == 0 {
		t.Errorf("not everything happened: %+v", all)
	}
}

func history(t *rapid.T, all *Stats) {
	d := &simdisk.Disk{}
	f := &flaky{Storage: d}
	now := &clock{now: time.Unix(1e9, 0)}
	o := testOptions(f)
	o.Now = now.read
	c := open(t, o)
	count := func() {
		s := c.Stats()
		all.Hits, all.Misses, all.BadLines = all.Hits+s.Hits, all.Misses+s.Misses, all.BadLines+s.BadLines
		all.Evictions, all.Errors = all.Evictions+s.Evictions, all.Errors+s.Errors
	}
	defer func() { count(); c.Abandon() }()
	reopen := func() {
		f.set(false, false)
		c = open(t, o)
	}
	objects := rapid.Custom(func(t *rapid.T) Object {
		sizes := []int64{1, payload - 1, payload, payload + 1, 40000, LineBytes, LineBytes + 5, 3*LineBytes - 1}
		number := rapid.IntRange(0, 15).Draw(t, "number")
		return object(byte(rapid.IntRange(1, 2).Draw(t, "log")), number, sizes[number%len(sizes)])
	})
	part := func(o Object) (at, n int64) {
		at = rapid.Int64Range(0, o.SizeBytes-1).Draw(t, "at")
		return at, rapid.Int64Range(1, o.SizeBytes-at).Draw(t, "bytes")
	}
	t.Repeat(map[string]func(*rapid.T){
		"": func(t *rapid.T) { quiet(c); c.index.check(t) },
		"read": func(t *rapid.T) {
			for range rapid.IntRange(1, 12).Draw(t, "reads") {
				o := objects.Draw(t, "object")
				at, n := part(o)
				read(t, c, o, at, n)
			}
		},
		"put": func(t *rapid.T) {
			o := objects.Draw(t, "object")
			at, n := part(o)
			c.Put(o, at, content(o)[at:at+n])
		},
		"put all": func(t *rapid.T) {
			for range rapid.IntRange(1, 8).Draw(t, "objects") {
				o := objects.Draw(t, "object")
				c.Put(o, 0, content(o))
			}
		},
		"drop": func(t *rapid.T) {
			o := objects.Draw(t, "object")
			at, n := part(o)
			c.Drop(o, Range{at, at + n})
		},
		"drop log": func(t *rapid.T) { c.DropLog(objects.Draw(t, "object").Log) },
		"save":     func(*rapid.T) { _ = c.save(ctx) },
		"resize": func(t *rapid.T) {
			if c.file != nil {
				o.SizeBytes = MinSize + rapid.Int64Range(0, 5).Draw(t, "units")*unit
				must(t, c.Resize(o.SizeBytes))
			}
		},
		"fail": func(t *rapid.T) {
			f.set(rapid.Bool().Draw(t, "reads"), rapid.Bool().Draw(t, "writes"))
			now.add(time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second)
		},
		"damage": func(t *rapid.T) {
			size := int64(len(d.Bytes(testPath)))
			at := rapid.Int64Range(8, size-600).Draw(t, "at") // but for the superblock's magic
			if rapid.Bool().Draw(t, "of the index") {
				at = rapid.Int64Range(unit, unit+2*block).Draw(t, "index at")
			}
			d.Damage(testPath, at, rapid.SliceOfN(rapid.Byte(), 1, 600).Draw(t, "bytes"))
		},
		"misplace": func(t *rapid.T) { // a line, or a page, that the disk wrote elsewhere
			b := d.Bytes(testPath)
			units := rapid.Int64Range(1, int64(len(b))/unit-1)
			from, to := units.Draw(t, "from"), units.Draw(t, "to")
			d.Damage(testPath, to*unit, b[from*unit:(from+1)*unit])
		},
		"close": func(*rapid.T) { _ = c.Close(ctx); count(); d.Restart(); reopen() },
		"die":   func(*rapid.T) { c.Abandon(); count(); d.Restart(); reopen() },
		"lose power": func(t *rapid.T) {
			c.Abandon()
			count()
			random := rapid.Uint64().Draw(t, "kept") | 1
			mode := rapid.SampledFrom([]string{"all lost", "all kept", "torn", "lines kept"}).Draw(t, "mode")
			d.Crash(func(i int) bool {
				switch mode {
				case "all lost":
					return false
				case "all kept":
					return true
				case "torn":
					return scramble(random+uint64(i))&1 == 0
				}
				return scramble(random+uint64(i/128))&1 == 0
			})
			reopen()
		},
		"lose power in a step": func(t *rapid.T) {
			d.StopAt(d.Steps() + rapid.IntRange(1, 4).Draw(t, "step"))
			o := objects.Draw(t, "object")
			c.Put(o, 0, content(o))
			read(t, c, o, 0, o.SizeBytes)
			_ = c.save(ctx)
			c.Abandon()
			count()
			random := rapid.Uint64().Draw(t, "kept")
			d.Crash(func(i int) bool { return scramble(random+uint64(i))&1 == 0 })
			reopen()
		},
	})
}
