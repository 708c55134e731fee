package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/dir"
	"github.com/holkas-io/holkas/pkg/objstore/metrics"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
	"github.com/holkas-io/holkas/pkg/objstore/s3"
	"github.com/holkas-io/holkas/pkg/repository"
)

// catalogue says where the repository is.
type catalogue struct {
	at     location
	create bool
}

// location is a directory or a bucket.
type location struct {
	dir    string
	bucket *s3.Options
}

func (c *catalogue) add(s *config.Set) {
	config.AddOne(s, config.One[location]{
		Name: "repository", Usage: "where the repository is: `dir:/path`, a directory of this machine, or s3://bucket/prefix?endpoint=https://host:port&region=name&credentials=folder:/path, a bucket for any number of machines (also ca-file, addressing, sign-payload, allow-http, profile; credentials=environment, role or file:/path; without an endpoint it is Amazon's; in quotes for a shell)",
		Into: &c.at, Parse: parseRepository, Required: "where the repository is: dir:/an/absolute/path or s3://bucket/prefix",
	})
}

// addCreate adds the leave to make a repository, which not every command has.
func (c *catalogue) addCreate(s *config.Set) {
	config.AddOne(s, config.One[bool]{
		Name: "create-repository", Usage: "make the repository if its directory is empty or missing, or its bucket's prefix empty (a bucket itself is never made); without this it must exist, so that a filesystem which is not mounted is never taken for a new repository",
		Into: &c.create, Parse: parseBool,
	})
}

// parseRepository never repeats what may hold credentials: anything but a path.
func parseRepository(text string) (location, error) {
	if strings.HasPrefix(text, s3.Scheme+"://") {
		o, err := s3.ParseURL(text)
		if err != nil {
			var all []string
			for _, err := range each(err) {
				all = append(all, err.Error())
			}
			return location{}, errors.New(strings.Join(all, "; "))
		}
		return location{bucket: &o}, nil
	}
	const want = "want dir:/an/absolute/path or s3://bucket/prefix"
	path, found := strings.CutPrefix(text, "dir:")
	if _, err := parsePath(path); found && err == nil {
		return location{dir: path}, nil
	}
	if found || strings.HasPrefix(text, "/") {
		return location{}, fmt.Errorf("%q: %s", text, want)
	}
	return location{}, errors.New(want)
}

// opener opens the repository of one process.
type opener struct {
	// open makes one attempt, of one goroutine at a time. Transient while the
	// store is away.
	open func(ctx context.Context) (*repository.Repository, error)
	// data returns the same store for whole segments, which take longer than the
	// catalogue's records; once the repository was opened.
	data  func(ctx context.Context) (objstore.Store, error)
	close func() // when nothing uses the repository any more
}

// opener returns how a process opens its repository; of a bucket the metrics are
// in a registry.
func (c *catalogue) opener(r prometheus.Registerer) (opener, error) {
	if c.at.bucket == nil {
		data := func(ctx context.Context) (objstore.Store, error) { return dir.Open(ctx, dir.Options{Root: c.at.dir}) }
		return opener{c.openDir, data, func() {}}, nil
	}
	bucket, err := s3.New(*c.at.bucket)
	if err != nil {
		return opener{}, err
	}
	counted, err := metrics.New(bucket, r)
	if err != nil {
		return opener{}, err
	}
	store, err := retry.New(counted, retry.Options{Try: storeTry, Total: storeTotal})
	if err != nil {
		return opener{}, err
	}
	segments, err := retry.New(counted, retry.Options{})
	if err != nil {
		return opener{}, err
	}
	data := func(context.Context) (objstore.Store, error) { return segments, nil }
	return opener{c.unlessUnfit(store), data, bucket.Close}, nil
}

// unlessUnfit opens a repository in a store, which it asks no more once it was
// found unfit: that costs many requests, and a process that starts again asks
// anew.
func (c *catalogue) unlessUnfit(store objstore.Store) func(ctx context.Context) (*repository.Repository, error) {
	var unfit error
	return func(ctx context.Context) (*repository.Repository, error) {
		if unfit != nil {
			return nil, unfit
		}
		r, err := c.openBucket(ctx, store)
		if fault.Is(err, fault.Unsupported) {
			unfit = err
		}
		return r, err
	}
}

// How long a request to a store and all tries of it may take: what is read and
// written is small, and whoever waits for a call, for 10 s or more, is to hear
// what is wrong with the store, and not run out of time.
const (
	storeTry   = 5 * time.Second
	storeTotal = 8 * time.Second
)

func (c *catalogue) openDir(ctx context.Context) (*repository.Repository, error) {
	store, err := dir.Open(ctx, dir.Options{Root: c.at.dir, Create: c.create})
	if err != nil {
		return nil, err
	}
	return repository.Open(ctx, store, repository.Options{})
}

// openBucket writes nothing before it knows that the store keeps to its contract,
// and tries none where no repository is to be.
func (c *catalogue) openBucket(ctx context.Context, store objstore.Store) (*repository.Repository, error) {
	r, err := repository.Open(ctx, store, repository.Options{MustExist: true})
	missing := fault.Is(err, fault.NotFound)
	if missing && !c.create {
		return nil, fmt.Errorf("%w: if a new one is to be there, --create-repository makes it", err)
	}
	if err != nil && !missing {
		return nil, err
	}
	if err := objstore.Probe(ctx, store, repository.ProbePrefix); err != nil {
		return nil, err
	}
	if missing {
		return repository.Open(ctx, store, repository.Options{})
	}
	return r, nil
}

// openRetry is the first pause after the store was away, openRetryMax the longest.
const (
	openRetry    = 100 * time.Millisecond
	openRetryMax = 10 * time.Second
)

// await opens the repository, and tries again while its store is away, which it
// tells of. It returns none when ctx ends first.
func (o opener) await(ctx context.Context, away func(error)) (*repository.Repository, error) {
	for pause := openRetry; ; pause = min(2*pause, openRetryMax) {
		r, err := o.open(ctx)
		switch {
		case err == nil:
			return r, nil
		case ctx.Err() != nil:
			return nil, nil
		case !fault.Is(err, fault.Transient) && !fault.Is(err, fault.Deadline):
			return nil, err
		}
		klog.FromContext(ctx).Error(err, "Repository cannot be opened; trying again", "after", pause)
		away(err)
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(pause):
		}
	}
}
