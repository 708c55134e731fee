package s3

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/holkas-io/holkas/pkg/fault"
)

const (
	// maxBatch is how many keys S3 deletes at once.
	maxBatch = 1000
	// deleters is how many requests delete side by side where it cannot.
	deleters = 8
)

// Delete removes objects.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := admit(ctx, keys...); err != nil {
		return fault.Wrap(err, "delete", "")
	}
	for batch := range slices.Chunk(keys, maxBatch) {
		if err := s.deleteBatch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) deleteBatch(ctx context.Context, keys []string) error {
	if len(keys) > 1 && !s.noBatches.Load() {
		err := s.deleteAtOnce(ctx, keys)
		if !fault.Is(err, fault.Unsupported) {
			return fault.Wrap(err, "delete", keys[0]+" and others")
		}
		s.noBatches.Store(true)
	}
	work := make(chan string, len(keys))
	for _, key := range keys {
		work <- key
	}
	close(work)
	failed := make(chan error, deleters)
	var all sync.WaitGroup
	for range min(deleters, len(keys)) {
		all.Go(func() {
			for key := range work {
				if err := s.deleteOne(ctx, key); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

func (s *Store) deleteOne(ctx context.Context, key string) error {
	re, err := s.send(ctx, request{method: http.MethodDelete, key: key})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err == nil && re.status != http.StatusNoContent && re.status != http.StatusOK {
		err = re.strange("a deletion")
	}
	return fault.Wrap(err, "delete", key)
}

type deletion struct {
	XMLName xml.Name `xml:"Delete"`
	Objects []struct {
		Key string
	} `xml:"Object"`
}

type deleted struct {
	XMLName xml.Name `xml:"DeleteResult"`
	Deleted []struct{ Key string }
	Error   []struct{ Key, Code, Message string }
}

// deleteAtOnce deletes keys by one request. Unsupported if the server does not do
// that.
func (s *Store) deleteAtOnce(ctx context.Context, keys []string) error {
	var d deletion
	for _, key := range keys {
		d.Objects = append(d.Objects, struct{ Key string }{s.inBucket(key)})
	}
	body, err := xml.Marshal(d)
	if err != nil {
		return err
	}
	sum := md5.Sum(body) // what older servers insist on
	re, err := s.send(ctx, request{
		method: http.MethodPost,
		query:  url.Values{"delete": {""}},
		header: map[string]string{
			"Content-Md5":  base64.StdEncoding.EncodeToString(sum[:]),
			"Content-Type": "application/xml",
			checksumHeader: checksum(body),
		},
		body:    body,
		isSmall: true,
	})
	if err != nil {
		return err
	}
	return s.missed(keys, re)
}

// missed reports what a reply does not say to be gone.
func (s *Store) missed(keys []string, re reply) error {
	var got deleted
	if err := xml.Unmarshal(re.body, &got); err != nil {
		return fault.New(fault.Transient, "unreadable reply to a deletion: %w", err)
	}
	gone := map[string]bool{}
	for _, d := range got.Deleted {
		gone[d.Key] = true
	}
	var all []error
	for _, e := range got.Error {
		v := judge(0, e.Code)
		if v.kind == fault.NotFound {
			gone[e.Key] = true
			continue
		}
		if _, known := verdicts[e.Code]; !known || v.kind != fault.Transient {
			v = again
		}
		said := problem{Code: printable(e.Code), Message: e.Message}.describe(reply{}, credentials.Value{})
		all = append(all, fault.Wrap(v.error(said), "", printable(e.Key)))
	}
	if len(all) > 0 {
		return errors.Join(all[:min(len(all), 3)]...) // a thousand say no more
	}
	for _, key := range keys {
		if !gone[s.inBucket(key)] {
			return fault.New(fault.Transient, "the reply does not say that %s is deleted", key)
		}
	}
	return nil
}
