package object

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// note is what must be known of a device to serve it again after a restart.
type note struct {
	ReadOnly bool       `json:"readOnly,omitempty"`
	Shared   bool       `json:"shared,omitempty"`
	Epoch    vlog.Epoch `json:"epoch,omitempty"` // of its writer; 0 for a reader
}

func (b *Backend) notePath(id volume.ID) string {
	return filepath.Join(b.folder("attached"), string(id))
}

func (b *Backend) writeNote(id volume.ID, n note) error {
	body, err := json.Marshal(n)
	if err == nil {
		err = writeFile(b.notePath(id), body)
	}
	return fault.Wrap(err, "note the device of volume", string(id))
}

func (b *Backend) readNote(id volume.ID) (n note, err error) {
	body, err := os.ReadFile(b.notePath(id))
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	return n, fault.Wrap(err, "read", b.notePath(id))
}

// writeFile replaces a file, durably and in one moment.
func writeFile(path string, body []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	return errors.Join(err, syncFolder(filepath.Dir(path)))
}

// removeFile removes a file, durably. None is success.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ids lists the volumes that a folder has files of.
func ids(folder string) (all []volume.ID, err error) {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		if id, err := volume.ParseID(e.Name()); err == nil {
			all = append(all, id)
		}
	}
	return all, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
