package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

func be(parts ...any) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		if s, ok := p.(string); ok {
			p = []byte(s)
		}
		_ = binary.Write(&b, binary.BigEndian, p)
	}
	return b.Bytes()
}

func option(kind uint32, data []byte) []byte {
	return be(uint64(optionMagic), kind, uint32(len(data)), data)
}

func rep(option, kind uint32, data []byte) []byte {
	return be(uint64(optionReply), option, kind, uint32(len(data)), data)
}

func goData(name string, kinds ...uint16) []byte {
	return be(uint32(len(name)), name, uint16(len(kinds)), kinds)
}

func TestHandshake(t *testing.T) {
	o := offer{"disk", 1 << 30, hasFlags | sendFlush}
	export := be(uint64(1<<30), uint16(hasFlags|sendFlush))
	info := func(kind uint32) []byte {
		return bytes.Join([][]byte{
			rep(kind, repInfo, be(uint16(infoExport), export)),
			rep(kind, repInfo, be(uint16(infoBlocks), uint32(512), uint32(4096), uint32(32<<20))),
			rep(kind, repAck, nil),
		}, nil)
	}
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	var many []byte
	for range maxOptions {
		many = append(many, option(optList, nil)...)
	}
	const abort, broken = "abort", "broken"
	for _, row := range []struct {
		name    string
		flags   uint32
		options []byte
		want    []byte // after the greeting; nil is not looked at
		ends    string // "" is with requests to follow
	}{
		{"go", 3, option(optGo, goData("disk", infoBlocks)), info(optGo), ""},
		{"go to the default export", 3, option(optGo, goData("")), info(optGo), ""},
		{"export name", 3, option(optExport, []byte("disk")), export, ""},
		{"export name with zeroes", 1, option(optExport, nil), join(export, make([]byte, 124)), ""},
		{"info, then go", 3, join(option(optInfo, goData("disk")), option(optGo, goData("disk"))), join(info(optInfo), info(optGo)), ""},
		{"list, then abort", 3, join(option(optList, nil), option(optAbort, nil)), join(rep(optList, repServer, be(uint32(4), "disk")), rep(optList, repAck, nil), rep(optAbort, repAck, nil)), abort},
		{"structured replies, TLS and contexts are refused", 3, join(option(8, nil), option(5, nil), option(10, []byte("xyz")), option(optGo, goData("disk"))),
			join(rep(8, repErrUnsup, nil), rep(5, repErrUnsup, nil), rep(10, repErrUnsup, nil), info(optGo)), ""},
		{"an unknown export", 3, join(option(optGo, goData("other")), option(optAbort, nil)), join(rep(optGo, repErrUnk, []byte(`there is only "disk"`)), rep(optAbort, repAck, nil)), abort},
		{"an unknown export by name", 3, option(optExport, []byte("other")), nil, broken},
		{"malformed go", 3, join(option(optGo, []byte{0, 0, 0, 9, 1, 2}), option(optGo, nil), option(optGo, goData("disk")[:9]), option(optAbort, nil)),
			join(rep(optGo, repErrInval, nil), rep(optGo, repErrInval, nil), rep(optGo, repErrInval, nil), rep(optAbort, repAck, nil)), abort},
		{"malformed list", 3, join(option(optList, []byte("x")), option(optAbort, nil)), join(rep(optList, repErrInval, nil), rep(optAbort, repAck, nil)), abort},
		{"an old client", 0, nil, nil, broken},
		{"unknown client flags", 1<<7 | 1, nil, nil, broken},
		{"wrong magic", 3, make([]byte, 16), nil, broken},
		{"a long option", 3, be(uint64(optionMagic), uint32(optGo), uint32(1<<31)), nil, broken},
		{"an option cut short", 3, option(optGo, goData("disk"))[:20], nil, broken},
		{"options without end", 3, many, nil, broken},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			err := o.handshake(struct {
				io.Reader
				io.Writer
			}{bytes.NewReader(append(be(row.flags), row.options...)), &out})
			ends := broken
			switch {
			case err == nil:
				ends = ""
			case errors.Is(err, errAborted):
				ends = abort
			}
			if ends != row.ends {
				t.Errorf("ended %q with %v, want %q", ends, err, row.ends)
			}
			want := be(uint64(serverMagic), uint64(optionMagic), uint16(fixedNew|noZeroes), row.want)
			if row.want != nil && !bytes.Equal(out.Bytes(), want) {
				t.Errorf("sent\n%x, want\n%x", out.Bytes(), want)
			}
		})
	}
}

// FuzzHandshake: whatever a client sends, the handshake ends, without a panic
// and without replies that grow with it.
func FuzzHandshake(f *testing.F) {
	f.Add(be(uint32(3), option(optGo, goData("disk", infoBlocks))))
	f.Add(be(uint32(3), option(optList, nil), option(8, nil), option(optExport, []byte("disk"))))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var out bytes.Buffer
		_ = offer{"disk", 1 << 30, hasFlags}.handshake(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(stream), &out})
		if out.Len() > 18+maxOptions*200 {
			t.Errorf("%d bytes in reply to %d", out.Len(), len(stream))
		}
	})
}

// export serves a disk by a unix socket until the test ends.
func export(t *testing.T, e Export) (socket string, stop func() error) {
	socket = filepath.Join(tempDir(t), "socket")
	l, err := net.Listen("unix", socket)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, l) }()
	stop = func() error {
		cancel()
		return <-served
	}
	t.Cleanup(cancel)
	return socket, stop
}

func TestExport(t *testing.T) {
	disk := newRAM(diskBytes)
	socket, stop := export(t, Export{Name: "disk", Disk: disk, Options: discards})
	conn, err := net.Dial("unix", socket)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = conn.Write(be(uint32(3), option(optExport, []byte("disk"))))
	must(t, err)
	greeting := make([]byte, 18+10)
	_, err = io.ReadFull(conn, greeting)
	must(t, err)
	c := &client{t: t, conn: conn}
	if code, _ := c.ask(cmdWrite, flagFUA, 4096, 512, make([]byte, 512)); code != 0 {
		t.Errorf("write: error %d", code)
	}
	// One that says nothing, and one that is served, do not hold up the end.
	quiet, err := net.Dial("unix", socket)
	must(t, err)
	defer quiet.Close()
	_, err = io.ReadFull(quiet, greeting[:18])
	must(t, err)
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if got := strings.Join(disk.took(), " "); got != "write flush" {
		t.Errorf("got %s", got)
	}
}

func TestExportIsLocal(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	must(t, err)
	defer l.Close()
	if err := (Export{Disk: newRAM(512)}).Serve(t.Context(), l); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want invalid", err)
	}
}

// TestFio has fio write and verify blocks of odd sizes at odd places, through
// several connections.
func TestFio(t *testing.T) {
	disk := newRAM(64 << 20)
	socket, stop := export(t, Export{Disk: disk, Options: discards})
	out, err := exec.Command("fio", "--name=nbd", "--ioengine=nbd", "--uri=nbd+unix:///?socket="+socket,
		"--rw=randrw", "--rwmixwrite=70", "--bsrange=512-128k", "--blockalign=512", "--iodepth=16", "--numjobs=2", "--size=16m",
		"--offset_increment=20m", "--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1", "--fsync=50", "--verify_state_save=0").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	log := disk.took()
	counts := make(map[string]int)
	for _, what := range log {
		counts[what]++
	}
	if counts["write"] == 0 || counts["read"] == 0 || counts["flush"] == 0 || disk.bad != "" {
		t.Errorf("it did %v; %s", counts, disk.bad)
	}
	t.Log(counts, "at most", disk.maxCalls, "at once")
}
