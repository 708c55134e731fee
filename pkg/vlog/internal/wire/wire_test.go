package wire

import (
	"bytes"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
)

var format = Format{Magic: "hlktest\n", Version: 2, Must: 1, MaxBytes: 1 << 10}

func TestBoxes(t *testing.T) {
	old := Format{Magic: format.Magic, Version: 1, MaxBytes: 1 << 10}
	later := Format{Magic: format.Magic, Version: 3, MaxBytes: 1 << 10}
	for _, c := range []struct {
		name string
		box  []byte
		want fault.Kind
		ok   bool
	}{
		{"plain", format.Append(nil, []byte("body")), 0, true},
		{"of an older version", old.Append(nil, []byte("body")), 0, true},
		{"known flag", format.AppendFlags(nil, []byte("body"), 1, 0), 0, true},
		{"unknown flag to ignore", format.AppendFlags(nil, []byte("body"), 0, 0x8000), 0, true},
		{"with bytes behind", append(format.Append(nil, []byte("body")), 1, 2, 3), 0, true},
		{"unknown flag to understand", format.AppendFlags(nil, []byte("body"), 2, 0), fault.Unsupported, false},
		{"of a later version", later.Append(nil, []byte("body")), fault.Unsupported, false},
		{"too long", format.Append(nil, make([]byte, 1<<10+1)), fault.Corrupt, false},
		{"empty", nil, fault.Corrupt, false},
		{"of another kind", Format{Magic: "hlkothr\n", Version: 1}.Append(nil, nil), fault.Corrupt, false},
		{"of version 0", Format{Magic: format.Magic}.Append(nil, nil), fault.Corrupt, false},
	} {
		box, err := format.Open(c.box, "x")
		if (err == nil) != c.ok || !c.ok && fault.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if c.ok && string(box.Body) != "body" {
			t.Errorf("%s: body %q", c.name, box.Body)
		}
	}
}

// TestEveryDamageIsSeen: each byte changed in turn, and each truncation.
func TestEveryDamageIsSeen(t *testing.T) {
	whole := format.AppendFlags(nil, []byte("some body"), 1, 4)
	for i := range whole {
		for _, flip := range []byte{1, 0x80, 0xff} {
			b := bytes.Clone(whole)
			b[i] ^= flip
			if _, err := format.Open(b, "x"); !fault.Is(err, fault.Corrupt) {
				t.Errorf("byte %d flipped by %#x: %v, want corrupt", i, flip, err)
			}
		}
		if _, err := format.Open(whole[:i], "x"); !fault.Is(err, fault.Corrupt) {
			t.Errorf("truncated to %d: %v, want corrupt", i, err)
		}
	}
}

func TestDecoder(t *testing.T) {
	body := AppendString([]byte{7, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x80, 1}, "name")
	d := NewDecoder(Box{Body: body}, "x")
	if a, b, c, v, s := d.U8(), d.U32(), d.U64(), d.Uvarint("v", 1, 200), d.String("s", 9); a != 7 || b != 1 || c != 2 || v != 128 || s != "name" || d.End() != nil {
		t.Error(a, b, c, v, s, d.End())
	}
	for name, read := range map[string]func(*Decoder){
		"value too small":  func(d *Decoder) { d.Uvarint("v", 8, 9) },
		"value too large":  func(d *Decoder) { d.Uvarint("v", 0, 6) },
		"string too long":  func(d *Decoder) { _ = d.String("s", 6) },
		"more than it has": func(d *Decoder) { d.Bytes(100) },
		"a negative count": func(d *Decoder) { d.Bytes(-1) },
		"too many":         func(d *Decoder) { d.Count("c", 100, 10) },
		"not to the end":   func(d *Decoder) { d.U64() },
	} {
		d := NewDecoder(Box{Body: body}, "x")
		read(d)
		if !fault.Is(d.End(), fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", name, d.End())
		}
	}
	for name, row := range map[string]struct {
		box Box
		ok  bool
	}{
		"zeros":               {Box{Body: []byte{0, 0, 0, 9}}, true},
		"not zeros":           {Box{Body: []byte{0, 0, 1, 9}}, false},
		"not zeros, known so": {Box{Body: []byte{0, 0, 1, 9}, More: true}, true},
		"longer, known so":    {Box{Body: []byte{0, 0, 1, 1, 1, 9}, More: true}, true},
		"longer":              {Box{Body: []byte{0, 0, 0, 0, 0, 9}}, false},
		"nothing, known so":   {Box{More: true}, false},
	} {
		d := NewDecoder(row.box, "x")
		d.ZerosUpTo(3, 1)
		if last := d.U8(); (d.End() == nil) != row.ok || row.ok && last != 9 {
			t.Errorf("%s: last %d, %v", name, last, d.End())
		}
	}
	long := NewDecoder(Box{Body: []byte{0x81, 0}}, "x")
	if long.Uvarint("v", 0, 1<<20); long.Err() == nil {
		t.Error("a varint that is longer than it must be was accepted")
	}
	more := NewDecoder(Box{Body: body, More: true}, "x")
	if more.U8(); more.End() != nil {
		t.Error("announced bytes were refused:", more.End())
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(format.Append(nil, []byte("body")))
	f.Add([]byte("hlktest\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		box, err := format.Open(b, "x")
		if err != nil {
			if box.Body != nil {
				t.Error("a body beside an error")
			}
			return
		}
		d := NewDecoder(box, "x")
		for d.Err() == nil && d.Left() > 0 {
			switch d.U8() % 5 {
			case 0:
				d.U32()
			case 1:
				d.Uvarint("v", 0, 1<<63)
			case 2:
				_ = d.String("s", 100)
			case 3:
				d.Count("c", 1000, 3)
			default:
				d.U64()
			}
		}
	})
}
