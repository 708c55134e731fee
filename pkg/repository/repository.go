package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Options of Open.
type Options struct {
	Now func() time.Time // nil: time.Now
	// MustExist has Open make none: NotFound where the store holds none.
	MustExist bool
}

// Repository is an open repository. Its ledgers and tombstones are its whole
// content here.
type Repository struct {
	id volume.RepositoryID

	VolumeNames   Ledger[Name] // subject: the CSI name
	SnapshotNames Ledger[Name]
	GroupNames    Ledger[Name]
	Volumes       Ledger[Volume] // subject: the id
	Snapshots     Ledger[Snapshot]
	Groups        Ledger[Group]
	Nodes         Ledger[Node]

	// Of the object backend. Their records are never removed.
	ObjectVolumes   Ledger[ObjectVolume] // subject: the id
	ObjectSnapshots Ledger[ObjectSnapshot]

	tombstones tombstones
}

// rootKey is the object that makes a store a repository.
const rootKey = "holkas.json"

// ProbePrefix is where a store may be tried, by objstore.Probe, before there is a
// repository in it: what lies there belongs to none.
const ProbePrefix = "probe/"

const rootKind kind = "repository"

// root is the value of the root object.
type root struct {
	ID volume.RepositoryID `json:"id"`
}

// Open opens the repository in a store, and makes one (holkas.json) where the
// store holds nothing at all but probes. Several may do so at once: all of them
// open the same one. Corrupt if holkas.json cannot be read, or is missing where other
// objects are; Unsupported for a later format version.
func Open(ctx context.Context, store objstore.Store, o Options) (*Repository, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	now := func() time.Time { return o.Now().UTC().Round(0) }
	id, err := openRoot(ctx, store, o.MustExist, now)
	if err != nil {
		return nil, fault.Wrap(err, "open repository", rootKey)
	}
	r := on(store, now)
	r.id = id
	return r, nil
}

// on lays the ledgers over a store.
func on(store objstore.Store, now func() time.Time) *Repository {
	names := func(kind kind, base string) Ledger[Name] {
		return Ledger[Name]{store, now, layout{kind, base, "/", nameKey}, func(n Name) bool { return n.Ended }}
	}
	return &Repository{
		VolumeNames:   names("volume-name", "names/volumes/"),
		SnapshotNames: names("snapshot-name", "names/snapshots/"),
		GroupNames:    names("group-name", "names/groups/"),
		Volumes: Ledger[Volume]{store, now, layout{"volume", "volumes/", "/records/", idKey(volume.ParseID)},
			func(v Volume) bool { return v.State == Ended }},
		Snapshots: Ledger[Snapshot]{store, now, layout{"snapshot", "snapshots/", "/records/", idKey(volume.ParseSnapshotID)},
			func(s Snapshot) bool { return s.State == Ended }},
		Groups: Ledger[Group]{store, now, layout{"group", "groups/", "/records/", idKey(volume.ParseGroupID)},
			func(g Group) bool { return g.State == Ended }},
		Nodes: Ledger[Node]{store, now, layout{"node", "nodes/", "/", idKey(volume.ParseNodeID)},
			func(n Node) bool { return n.Retired }},
		ObjectVolumes:   Ledger[ObjectVolume]{store, now, layout{"object-volume", "object-volumes/", "/", idKey(volume.ParseID)}, nil},
		ObjectSnapshots: Ledger[ObjectSnapshot]{store, now, layout{"object-snapshot", "object-snapshots/", "/", idKey(volume.ParseSnapshotID)}, nil},
		tombstones:      tombstones{store, now},
	}
}

// ID returns the repository's id.
func (r *Repository) ID() volume.RepositoryID { return r.id }

func openRoot(ctx context.Context, store objstore.Store, mustExist bool, now func() time.Time) (volume.RepositoryID, error) {
	id, err := readRoot(ctx, store)
	if !fault.Is(err, fault.NotFound) {
		return id, err
	}
	// A store that holds records but no root is damaged or not ours. A second
	// look tells it from one that another process has just begun.
	other, err := content(ctx, store)
	if err != nil {
		return "", err
	}
	if other != "" {
		if id, err = readRoot(ctx, store); fault.Is(err, fault.NotFound) {
			return "", fault.New(fault.Corrupt, "missing, though the store holds %q: restore it, or name an empty store", other)
		}
		return id, err
	}
	if mustExist {
		return "", fault.New(fault.NotFound, "missing, and the store is empty: want a repository there, or leave to make one")
	}
	value, err := json.Marshal(root{volume.NewRepositoryID()})
	if err != nil {
		return "", fault.As(fault.Internal, err)
	}
	object, err := encode(rootKind, envelope{Subject: rootKey, Revision: 1, Nonce: newNonce(), Written: now(), Value: value})
	if err != nil {
		return "", err
	}
	if err := store.Create(ctx, rootKey, object); err != nil && !fault.Is(err, fault.Exists) {
		return "", err
	}
	crashpoint.Here("repository: root created")
	return readRoot(ctx, store)
}

// content returns an entry of a store that is not a probe's; empty if there is none.
func content(ctx context.Context, store objstore.Store) (string, error) {
	for o := (objstore.ListOptions{Delimiter: "/"}); ; {
		page, err := store.List(ctx, o)
		if err != nil {
			return "", err
		}
		for _, object := range page.Objects {
			return object.Key, nil
		}
		for _, prefix := range page.Prefixes {
			if prefix != ProbePrefix {
				return prefix, nil
			}
		}
		if o.After = page.Next; o.After == "" {
			return "", nil
		}
	}
}

func readRoot(ctx context.Context, store objstore.Store) (volume.RepositoryID, error) {
	object, err := store.Get(ctx, rootKey)
	if err != nil {
		return "", err
	}
	e, err := decode(rootKind, object)
	if err != nil {
		return "", err
	}
	var r root
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return "", fault.New(fault.Corrupt, "value: %w", err)
	}
	if _, err := volume.ParseRepositoryID(string(r.ID)); err != nil {
		return "", fault.As(fault.Corrupt, err)
	}
	return r.ID, nil
}

// layout says where a ledger's objects are and how they are marked.
type layout struct {
	kind kind
	base string // before a subject's key
	tail string // behind it, before the revision
	// keyOf returns the part of the object key that stands for a subject.
	keyOf func(subject string) (string, error)
}

// nameKey hashes a CSI name, which may hold anything.
func nameKey(name string) (string, error) {
	if name == "" || !utf8.ValidString(name) {
		return "", fault.New(fault.Invalid, "name %.80q: want one or more characters of UTF-8", name)
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:]), nil
}

// idKey takes an id as it is: one that parses is a valid part of a key.
func idKey[ID ~string](parse func(string) (ID, error)) func(string) (string, error) {
	return func(subject string) (string, error) {
		id, err := parse(subject)
		return string(id), err
	}
}
