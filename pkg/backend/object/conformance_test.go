package object

import (
	"os"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/dir"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
	"github.com/holkas-io/holkas/pkg/objstore/s3"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestConformance holds the backend to the contract: on a store in memory; and with
// HOLKAS_SOAK on a directory, where flushes wait for the repository, and on a server
// of buckets.
func TestConformance(t *testing.T) {
	t.Parallel()
	run := func(name string, c volume.Class, open func(t *testing.T) objstore.Store) {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(t *testing.T) backendtest.Fixture { return fixture(t, open(t), c) })
		})
	}
	run("memory", class(), func(*testing.T) objstore.Store { return memory.New() })
	if os.Getenv("HOLKAS_SOAK") == "" {
		return
	}
	durable := class()
	durable.Durability = volume.ObjectDurability
	run("directory", durable, directory)
	run("bucket", class(), bucket)
}

func directory(t *testing.T) objstore.Store {
	t.Helper()
	store, err := dir.Open(t.Context(), dir.Options{Root: backendtest.Dir(t) + "/store", Create: true})
	must(t, err)
	return store
}

func bucket(t *testing.T) objstore.Store {
	t.Helper()
	server, err := s3test.Start()
	must(t, err)
	t.Cleanup(server.Stop)
	must(t, server.Bucket("bucket"))
	at, err := s3.New(s3.Options{
		Bucket: "bucket", Endpoint: server.Endpoint, Region: s3test.Region, AllowHTTP: true,
		Credentials: s3.Credentials{AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey},
	})
	must(t, err)
	t.Cleanup(at.Close)
	store, err := retry.New(at, retry.Options{})
	must(t, err)
	return store
}

func fixture(t *testing.T, store objstore.Store, c volume.Class) backendtest.Fixture {
	t.Helper()
	n := newNode(t, store, "node-1")
	return backendtest.Fixture{
		Backend: n.Backend, Class: c, PauseLimit: n.options.PauseLimit, MaxVolumes: n.options.MaxVolumes,
		Reopen: func(t *testing.T) backend.Backend {
			t.Helper()
			n.reopen()
			return n.Backend
		},
	}
}
