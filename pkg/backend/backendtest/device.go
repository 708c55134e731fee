package backendtest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

const block = 4096

// pattern is n bytes that no other seed gives in any block.
func pattern(seed uint64, n int) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	p := make([]byte, n)
	random.Read(p)
	return p
}

// attach gives a volume's device.
func (s *scene) attach(id volume.ID, readOnly bool) backend.Device {
	s.Helper()
	d, err := s.Backend.Attach(s.Context(), backend.AttachRequest{ID: id, ReadOnly: readOnly})
	s.must(err)
	return d
}

func (s *scene) detach(id volume.ID) {
	s.Helper()
	s.must(s.Backend.Detach(s.Context(), id))
}

// openDevice opens a device until the test ends or it is closed.
func (s *scene) openDevice(path string, flags int) *os.File {
	s.Helper()
	f, err := os.OpenFile(path, flags, 0)
	s.must(err)
	s.Cleanup(func() { f.Close() })
	return f
}

// write writes durably to a volume, which is attached for it if it is not.
func (s *scene) write(id volume.ID, offset int64, content []byte) {
	s.Helper()
	attached := s.volume(id).Device != ""
	f, err := os.OpenFile(s.attach(id, false).Path, os.O_RDWR, 0)
	s.must(err)
	_, err = f.WriteAt(content, offset)
	s.must(err)
	s.must(f.Sync())
	s.must(f.Close())
	if !attached {
		s.detach(id)
	}
}

// read reads a whole volume, which is attached for it if it is not.
func (s *scene) read(id volume.ID) []byte {
	s.Helper()
	path := s.volume(id).Device
	if path == "" {
		path = s.attach(id, true).Path
		defer s.detach(id)
	}
	content, err := os.ReadFile(path)
	s.must(err)
	return content
}

// readSnapshot reads a whole snapshot, by way of a clone.
func (s *scene) readSnapshot(of backend.Snapshot) []byte {
	s.Helper()
	r := s.request(of.SizeBytes, backend.Source{Snapshot: of.ID})
	defer func() { s.must(s.remove(r.ID)) }()
	_, err := s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	return s.read(r.ID)
}

func (s *scene) wantBytes(what string, got []byte, want ...[]byte) {
	s.Helper()
	all := bytes.Join(want, nil)
	if len(got) != len(all) {
		s.Errorf("%s: %d bytes, want %d", what, len(got), len(all))
		return
	}
	for at := 0; at < len(all); at += block {
		end := min(at+block, len(all))
		if !bytes.Equal(got[at:end], all[at:end]) {
			s.Errorf("%s: the block at %d is not as it should be", what, at)
			return
		}
	}
}

func zeros(n int64) []byte { return make([]byte, n) }

// blockIoctl discards or zeroes a range of a device.
func blockIoctl(f *os.File, request uintptr, offset, length int64) error {
	argument := [2]uint64{uint64(offset), uint64(length)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&argument)))
	if errno != 0 {
		return errno
	}
	return nil
}

// mounted is a volume with a mounted filesystem.
type mounted struct {
	id  volume.ID
	dir string
}

// mount makes a volume, formats it with ext4, and mounts it.
func (s *scene) mount() mounted {
	s.Helper()
	v := s.create(s.request(4*sizeBytes, backend.Source{}))
	d := s.attach(v.ID, false)
	s.must(s.Backend.RecordFilesystem(s.Context(), v.ID, backend.Filesystem{Type: volume.Ext4, State: backend.Formatting}))
	Command(s, "mkfs.ext4", "-q", "-F", d.Path)
	s.must(s.Backend.RecordFilesystem(s.Context(), v.ID, backend.Filesystem{Type: volume.Ext4, State: backend.Formatted}))
	return mounted{v.ID, Mount(s, d.Path, "noatime")}
}

// put writes a file durably.
func (m mounted) put(name, content string) error {
	f, err := os.OpenFile(filepath.Join(m.dir, name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		return err
	}
	return f.Sync()
}

// readFile reads a file in a snapshot of a mounted volume.
func (s *scene) readFile(of backend.Snapshot, name, options string) string {
	s.Helper()
	r := s.request(of.SizeBytes, backend.Source{Snapshot: of.ID})
	v, err := s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	defer func() { s.must(s.remove(r.ID)) }()
	if v.Filesystem.State != backend.Cloned || v.Filesystem.Type != volume.Ext4 {
		s.Errorf("clone of a snapshot of a formatted volume: filesystem %+v, want a cloned ext4", v.Filesystem)
	}
	dir := Mount(s, s.attach(v.ID, false).Path, options)
	defer Unmount(s, dir)
	content, err := os.ReadFile(filepath.Join(dir, name))
	s.must(err)
	return string(content)
}

// resumeLater ends a pause whatever becomes of the test.
func (s *scene) resumeLater(id backend.PauseID) {
	s.Cleanup(func() { _ = s.Backend.Resume(context.Background(), id) })
}
