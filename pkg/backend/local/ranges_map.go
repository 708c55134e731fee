package local

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"

	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// diskMap reads the map of a snapshot's disk forwards, a few extents at a time.
type diskMap struct {
	place place[record.Snapshot]
	file  *os.File
	size  int64

	next    func() (fiemapExtent, error, bool)
	stop    func()
	begun   bool
	current fiemapExtent // the one that was read last
	last    bool         // there are no more
}

// nothing is the map of a disk without any content.
func nothing() *diskMap { return &diskMap{stop: func() {}, begun: true, last: true} }

// openMap opens the map of a snapshot. Corrupt if its disk is missing or short.
func (b *Backend) openMap(ctx context.Context, id volume.SnapshotID) (*diskMap, error) {
	p, err := b.findSnapshot(ctx, id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p.medium.disk(p.dir))
	if errors.Is(err, fs.ErrNotExist) {
		if err := gonePlace(p); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Corrupt, "%s is missing: the snapshot's data is lost, unless the file turns up", p.medium.disk(p.dir))
	}
	if err != nil {
		return nil, p.wrap(err)
	}
	m := &diskMap{place: p, file: f, size: p.record.SizeBytes, stop: func() {}}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(p.wrap(err), f.Close())
	}
	if info.Size() < m.size {
		return nil, errors.Join(fault.New(fault.Corrupt, "%s has %d bytes: want %d: what was beyond is lost", f.Name(), info.Size(), m.size), f.Close())
	}
	return m, nil
}

// gonePlace says why the folder of a snapshot is not there, if it is not:
// NotFound if it was deleted, Transient if its pool went away.
func gonePlace(p place[record.Snapshot]) error {
	if err := p.store.present(); err != nil {
		return p.wrap(err)
	}
	if _, err := os.Lstat(p.dir); errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "snapshot %s was deleted meanwhile", p.record.ID)
	} else if err != nil {
		return p.wrap(err)
	}
	return nil
}

// present reports that the snapshot is no longer there.
func (m *diskMap) present() error {
	if m.file == nil {
		return nil
	}
	return gonePlace(m.place)
}

// at returns the mapping at an offset, which is never below the one before.
func (m *diskMap) at(offset int64) (mapping, error) {
	if offset >= m.size {
		return rest(), nil
	}
	if !m.begun {
		m.begun = true
		m.next, m.stop = iter.Pull2(extents(m.file, offset, fiemapSync))
		if err := m.advance(); err != nil {
			return mapping{}, err
		}
	}
	for !m.last && int64(m.current.logical+m.current.length) <= offset {
		if err := m.advance(); err != nil {
			return mapping{}, err
		}
	}
	begin, end := int64(m.current.logical), int64(m.current.logical+m.current.length)
	switch {
	case m.last:
		return rest(), nil
	case offset < begin:
		return mapping{end: min(begin, m.size)}, nil
	}
	found := mapping{end: min(end, m.size), holds: data, address: m.current.physical + uint64(offset-begin)}
	switch {
	case m.current.flags&fiemapUnsettled != 0:
		found.holds = unknown
	case m.current.flags&fiemapUnwritten != 0:
		found.holds = zeros
	}
	return found, nil
}

func (m *diskMap) advance() error {
	e, err, more := m.next()
	if err != nil {
		return m.place.wrap(err)
	}
	m.current, m.last = e, !more
	return nil
}

func (m *diskMap) close() {
	m.stop()
	if m.file != nil {
		m.file.Close()
	}
}
