package local

import (
	"path/filepath"

	"github.com/holkas-io/holkas/pkg/volume"
)

// layout names the files of the pool at a root. Ids have been through their
// Parse function, and are safe as path elements.
type layout string

// The folders of a pool; Open makes them once.
var folders = []string{"volumes", "snapshots", "tmp", "trash", "deleted", "frozen"}

const (
	poolFile = "holkas-pool.json"
	metaFile = "meta.json"
)

func (l layout) poolFile() string           { return filepath.Join(string(l), poolFile) }
func (l layout) folder(name string) string  { return filepath.Join(string(l), name) }
func (l layout) volume(id volume.ID) string { return filepath.Join(string(l), "volumes", string(id)) }
func (l layout) snapshot(id volume.SnapshotID) string {
	return filepath.Join(string(l), "snapshots", string(id))
}
func (l layout) frozenRecord(id volume.ID) string {
	return filepath.Join(string(l), "frozen", string(id))
}

// The same id never names two things, so volumes and snapshots share these.

func (l layout) tmp(id string) string       { return filepath.Join(string(l), "tmp", id) }
func (l layout) trash(id string) string     { return filepath.Join(string(l), "trash", id) }
func (l layout) tombstone(id string) string { return filepath.Join(string(l), "deleted", id) }

func meta(dir string) string { return filepath.Join(dir, metaFile) }
