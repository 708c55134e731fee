package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holkas-io/holkas/pkg/crashpoint"
)

// WriteFile puts a file with this content at path, in place of one that may be
// there: a temporary file beside it, synced, renamed over it, and the folder
// synced. The temporary file's name is "<path>.new"; a crash may leave it, and
// the next WriteFile replaces it.
func WriteFile(path string, content []byte) error {
	temporary := path + ".new"
	if err := writeSynced(temporary, content); err != nil {
		return err
	}
	crashpoint.Here("durable: temporary file written")
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	crashpoint.Here("durable: file renamed into place")
	return SyncDir(filepath.Dir(path))
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// SyncDir makes what was created, renamed or removed in a folder durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Rename moves a file or a folder to another folder of the same filesystem. The
// new place is durable before the old one is forgotten, so that a crash in
// between never loses it.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	crashpoint.Here("durable: moved")
	if err := SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(from))
}

// Touch puts an empty file at path, if there is none.
func Touch(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Link gives a file a second name, which needs no room for a file, and makes it
// as young as a new one.
func Link(path, name string) error {
	if err := os.Link(path, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	now := time.Now()
	if err := os.Chtimes(name, now, now); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// Remove removes a file. One that is not there is success.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}
