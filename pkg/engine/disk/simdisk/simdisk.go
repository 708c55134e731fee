// Package simdisk is a disk in memory that loses power: the writes that no sync
// covered are then lost, kept, torn at 512 bytes or reordered, as the test says.
//
// A step is a write or a sync. StopAt makes the power fail in a step; every
// later call fails with ErrStopped. Then Crash decides what the medium has and makes
// the disk usable again; Restart stands for a process's death without a loss of
// power: everything written is there, but durable only after a sync. A sync can
// be made to fail: as with Linux, readers still see the writes before it, but no
// later sync makes them durable.
package simdisk

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"syscall"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Sector is what a write is torn at.
const Sector = 512

// ErrStopped is what calls return once the power failed, or the process that
// opened the file died.
var ErrStopped = errors.New("simdisk: no power")

// Disk is a disk with files. The zero value is empty.
type Disk struct {
	mu      sync.Mutex
	files   map[string]*content
	life    int // of processes: handles of an earlier one are dead
	steps   int
	stopAt  int
	stopped bool
	syncs   int
	badSync int
}

var _ disk.Storage = (*Disk)(nil)

type content struct {
	durable pages // on the medium
	view    pages // what readers see
	pending []sector
	open    bool
}

// pages is bytes in pieces of disk.Align, which are never changed but replaced, so
// that copies share them.
type pages [][]byte

func paged(b []byte) (p pages) {
	b = bytes.Clone(b)
	for len(b) > 0 {
		n := min(len(b), disk.Align)
		p, b = append(p, b[:n:n]), b[n:]
	}
	return p
}

func (p pages) bytes() []byte { return bytes.Join(p, nil) }

func (p pages) size() (n int64) {
	for _, page := range p {
		n += int64(len(page))
	}
	return n
}

// write replaces what is at an offset.
func (p pages) write(at int64, b []byte) {
	for len(b) > 0 {
		i, skip := at/disk.Align, at%disk.Align
		page := bytes.Clone(p[i])
		n := copy(page[skip:], b)
		p[i], at, b = page, at+int64(n), b[n:]
	}
}

// resized returns the beginning of p, or p and zeros.
func (p pages) resized(bytes int64) pages {
	n := int(bytes / disk.Align)
	if n <= len(p) {
		return p[:n:n]
	}
	return append(slices.Clip(p), paged(make([]byte, bytes-p.size()))...)
}

// sector is an unsynced write of one sector.
type sector struct {
	at   int64
	data []byte
}

// StopAt makes the power fail in the n-th step from the beginning; 0 never. The
// write of that step is unsynced like others: it may be kept or torn.
func (d *Disk) StopAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopAt = n
}

// Steps returns how many steps were made.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// FailSync makes the n-th sync from now on fail, once.
func (d *Disk) FailSync(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.badSync = d.syncs + n
}

// Pending returns how many sectors are unsynced, over all files in their names'
// order.
func (d *Disk) Pending() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.files {
		n += len(c.pending)
	}
	return n
}

// Crash is the loss of power: of the pending sectors, those stay for which keep
// says so; later writes of one sector win over earlier ones. Open files are dead.
func (d *Disk) Crash(keep func(i int) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := 0
	for _, name := range d.names() {
		c := d.files[name]
		for _, s := range c.pending {
			if keep(i) {
				c.durable.write(s.at, s.data)
			}
			i++
		}
		c.pending, c.view, c.open = nil, slices.Clone(c.durable), false
	}
	d.again()
}

// Restart is a process's death without a loss of power.
func (d *Disk) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.files {
		c.open = false
	}
	d.again()
}

func (d *Disk) again() { d.life, d.stopped, d.stopAt = d.life+1, false, 0 }

func (d *Disk) names() []string {
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Fork returns a copy of the disk; no file of it is open.
func (d *Disk) Fork() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &Disk{files: map[string]*content{}, steps: d.steps, syncs: d.syncs}
	for name, c := range d.files {
		f.files[name] = &content{durable: slices.Clone(c.durable), view: slices.Clone(c.view), pending: slices.Clone(c.pending)}
	}
	return f
}

// Bytes returns a copy of what a reader of the file sees.
func (d *Disk) Bytes(path string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[path].view.bytes()
}

// Damage changes what is on the medium, whatever has the file open.
func (d *Disk) Damage(path string, at int64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.files[path]
	c.view.write(at, p)
	c.durable.write(at, p)
}

// Put makes or replaces a file, durably.
func (d *Disk) Put(path string, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files == nil {
		d.files = map[string]*content{}
	}
	d.files[path] = &content{durable: paged(b), view: paged(b)}
}

// Create makes a file in one step, see disk.Storage.
func (d *Disk) Create(path string, size int64, head []byte) (disk.File, error) {
	d.mu.Lock()
	if d.files[path] != nil {
		d.mu.Unlock()
		return nil, fault.New(fault.Exists, "create %s: there is one already", path)
	}
	ok := d.step()
	d.mu.Unlock()
	if !ok {
		return nil, ErrStopped
	}
	d.Put(path, append(bytes.Clone(head), make([]byte, size-int64(len(head)))...))
	return d.Open(path)
}

// Open opens a file, see disk.Storage.
func (d *Disk) Open(path string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.files[path]
	switch {
	case d.stopped:
		return nil, ErrStopped
	case c == nil:
		return nil, fault.New(fault.NotFound, "open %s: no such file", path)
	case c.open:
		return nil, fault.New(fault.InUse, "open %s: another process has it open", path)
	}
	c.open = true
	return &handle{d, c, d.life}, nil
}

// Remove removes a file, see disk.Storage. It is one step, durable at once.
func (d *Disk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return ErrStopped
	}
	if d.files[path] != nil && !d.step() {
		return ErrStopped
	}
	delete(d.files, path)
	return nil
}

// Link gives a file a second name, see disk.Storage. It is one step, durable at
// once, as Rename is.
func (d *Disk) Link(path, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.stopped:
		return ErrStopped
	case d.files[path] == nil:
		return fault.New(fault.NotFound, "link %s: no such file", path)
	case d.files[to] != nil:
		return fault.New(fault.Exists, "link %s: %s is there", path, to)
	case !d.step():
		return ErrStopped
	}
	d.files[to] = d.files[path]
	return nil
}

// Rename renames a file, see disk.Storage.
func (d *Disk) Rename(path, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.stopped:
		return ErrStopped
	case d.files[path] == nil:
		return fault.New(fault.NotFound, "rename %s: no such file", path)
	case !d.step():
		return ErrStopped
	}
	d.files[to] = d.files[path]
	delete(d.files, path)
	return nil
}

// step counts a step and reports whether there is still power after it.
func (d *Disk) step() bool {
	if d.stopped {
		return false
	}
	d.steps++
	d.stopped = d.steps == d.stopAt
	return !d.stopped
}

type handle struct {
	d    *Disk
	c    *content
	life int
}

func (h *handle) dead() bool { return h.d.stopped || h.life != h.d.life || !h.c.open }

func (h *handle) ReadAt(p []byte, at int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	switch {
	case h.dead():
		return 0, ErrStopped
	case !disk.Aligned(p) || at%disk.Align != 0:
		return 0, syscall.EINVAL
	}
	n := 0
	for n < len(p) && int((at+int64(n))/disk.Align) < len(h.c.view) {
		n += copy(p[n:], h.c.view[(at+int64(n))/disk.Align])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, at int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	switch {
	case h.dead():
		return 0, ErrStopped
	case !disk.Aligned(p) || at%disk.Align != 0 || at+int64(len(p)) > h.c.view.size():
		return 0, syscall.EINVAL
	}
	data := bytes.Clone(p)
	for i := 0; i < len(data); i += Sector {
		h.c.pending = append(h.c.pending, sector{at + int64(i), data[i : i+Sector]})
	}
	h.c.view.write(at, data)
	if !h.d.step() {
		return 0, ErrStopped
	}
	return len(p), nil
}

func (h *handle) Sync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.dead() || !h.d.step() {
		return ErrStopped
	}
	pending := h.c.pending
	h.c.pending = nil
	if h.d.syncs++; h.d.syncs == h.d.badSync {
		return syscall.EIO
	}
	for _, s := range pending {
		h.c.durable.write(s.at, s.data)
	}
	return nil
}

func (h *handle) Resize(bytes int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	switch {
	case h.dead():
		return ErrStopped
	case bytes < 0 || bytes%disk.Align != 0:
		return syscall.EINVAL
	case !h.d.step():
		return ErrStopped
	}
	h.c.pending = slices.DeleteFunc(h.c.pending, func(s sector) bool { return s.at >= bytes })
	h.c.view, h.c.durable = h.c.view.resized(bytes), h.c.durable.resized(bytes)
	return nil
}

func (h *handle) Size() (int64, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.dead() {
		return 0, ErrStopped
	}
	return h.c.view.size(), nil
}

func (h *handle) Close() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.life == h.d.life {
		h.c.open = false
	}
	return nil
}
