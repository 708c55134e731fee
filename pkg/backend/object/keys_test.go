package object

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

func secret(letter string) volume.Secrets {
	return volume.Secrets{volume.SecretEncryptionKey: strings.Repeat(letter, 64)}
}

// TestEncrypted: nothing of it is in the repository in the clear; nothing opens with
// another key, and the error says so; keys are rotated without writing data.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	store := memory.New()
	n := newNode(t, store, "node-1")
	c := class()
	c.Encryption, c.Compression = volume.AES256GCM, volume.NoCompression
	r := backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 4 * mib, Class: c}
	_, err := n.CreateVolume(t.Context(), r)
	want(t, "create without a key", err, fault.Invalid, "encryptionKey")
	r.Secrets = volume.Secrets{volume.SecretEncryptionKey: "hunter2"}
	_, err = n.CreateVolume(t.Context(), r)
	want(t, "create with a bad key", err, fault.Invalid, "32 random bytes")
	r.Secrets = secret("a")
	id := n.create(r)
	r.Secrets = secret("b")
	_, err = n.CreateVolume(t.Context(), r)
	want(t, "create again with another key", err, fault.Precondition, "user key")
	for _, s := range []volume.Secrets{nil, secret("b")} {
		_, err = n.Attach(t.Context(), backend.AttachRequest{ID: id, Secrets: s})
		want(t, "attach with the wrong key or none", err, fault.Precondition, "user key")
		if s == nil {
			continue
		}
		_, err = n.CreateSnapshot(t.Context(), backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: id, Consistency: volume.CrashConsistent, Secrets: s})
		want(t, "snapshot with the wrong key", err, fault.Precondition, "user key")
	}
	d := n.attach(id, secret("a"))
	n.write(d.Path, "x")
	n.reopen()
	n.has(d.Path, "x") // it was served again without anybody who has the key
	cut := n.cut(id, secret("a"))
	for e, err := range n.Allocated(t.Context(), cut.ID, 0) {
		if err != nil || e.Length != 4*mib {
			t.Errorf("ranges of an encrypted snapshot: %+v, %v", e, err)
		}
	}
	n.detach(id)
	everything := 0
	for o := (objstore.ListOptions{}); ; {
		page, err := store.List(t.Context(), o)
		must(t, err)
		for _, object := range page.Objects {
			body, err := store.Get(t.Context(), object.Key)
			must(t, err)
			everything += len(body)
			if bytes.Contains(body, []byte(strings.Repeat("x", 64))) {
				t.Errorf("%s has what was written, in the clear", object.Key)
			}
		}
		if o.After = page.Next; o.After == "" {
			break
		}
	}
	if everything < 4*mib {
		t.Errorf("%d bytes in the repository: the test looks at nothing", everything)
	}

	plain := backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 4 * mib, Class: class(), Source: backend.Source{Snapshot: cut.ID}, Secrets: secret("a")}
	_, err = n.CreateVolume(t.Context(), plain)
	want(t, "a clone in the clear", err, fault.Invalid, "encryption")
	wrong := plain
	wrong.ID, wrong.Class, wrong.Secrets = volume.NewID(), c, secret("b")
	_, err = n.CreateVolume(t.Context(), wrong)
	want(t, "a clone with another key", err, fault.Precondition, "user key")

	rotating := secret("c")
	rotating[volume.SecretPreviousEncryptionKey] = secret("a")[volume.SecretEncryptionKey]
	n.has(n.attach(id, rotating).Path, "x")
	n.detach(id)
	_, err = n.Attach(t.Context(), backend.AttachRequest{ID: id, Secrets: secret("a")})
	want(t, "attach with the key of before", err, fault.Precondition, "user key")
	n.has(n.attach(id, secret("c")).Path, "x")
	n.detach(id)

	clone := n.create(backend.CreateVolumeRequest{Class: c, Source: backend.Source{Snapshot: cut.ID}, Secrets: secret("c")})
	must(t, n.DeleteVolume(t.Context(), id))
	must(t, n.DeleteSnapshot(t.Context(), cut.ID))
	d = n.attach(clone, secret("c"))
	n.has(d.Path, "x")
	n.write(d.Path, "y")
	n.detach(clone)
	n.has(n.attach(clone, secret("c")).Path, "y")
	n.detach(clone)
	of := n.cut(clone, secret("c"))
	second := n.create(backend.CreateVolumeRequest{Class: c, Source: backend.Source{Snapshot: of.ID}, Secrets: secret("c")})
	n.has(n.attach(second, secret("c")).Path, "y")
	n.detach(second)
}

// TestEncryptedCloneOfPlain: what was in the clear is read, what is new is not.
func TestEncryptedCloneOfPlain(t *testing.T) {
	t.Parallel()
	n := newNode(t, memory.New(), "node-1")
	id := n.create(backend.CreateVolumeRequest{})
	n.write(n.attach(id, nil).Path, "x")
	n.detach(id)
	c := class()
	c.Encryption = volume.AES256GCM
	clone := n.create(backend.CreateVolumeRequest{Class: c, Source: backend.Source{Volume: id}, Secrets: secret("a")})
	d := n.attach(clone, secret("a"))
	n.has(d.Path, "x")
	n.detach(clone)
	n.has(n.attach(clone, secret("a")).Path, "x")
	n.detach(clone)
}
