package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"net/http"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

const checksumHeader = "X-Amz-Checksum-Crc32c"

// Get returns an object whole.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	body, err := s.get(ctx, key)
	return body, fault.Wrap(err, "get", key)
}

func (s *Store) get(ctx context.Context, key string) ([]byte, error) {
	if err := admit(ctx, key); err != nil {
		return nil, err
	}
	re, err := s.send(ctx, request{method: http.MethodGet, key: key, header: map[string]string{"X-Amz-Checksum-Mode": "ENABLED"}})
	if err != nil {
		return nil, err
	}
	return re.whole()
}

// GetRange returns a part of an object.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	body, err := s.getRange(ctx, key, offset, length)
	return body, fault.Wrap(err, "get", key)
}

func (s *Store) getRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := objstore.ValidateRange(offset, length); err != nil {
		return nil, err
	}
	if err := admit(ctx, key); err != nil {
		return nil, err
	}
	last := offset + min(length-1, math.MaxInt64-offset)
	re, err := s.send(ctx, request{method: http.MethodGet, key: key, header: map[string]string{
		"Range":               fmt.Sprintf("bytes=%d-%d", offset, last),
		"X-Amz-Checksum-Mode": "ENABLED",
	}})
	if err != nil {
		return nil, err
	}
	if re.status == http.StatusPartialContent {
		return re.part(offset, last)
	}
	body, err := re.whole() // a server that does not know ranges, or needs none here
	if err != nil {
		return nil, err
	}
	size := int64(len(body))
	if offset >= size {
		return nil, fault.New(fault.OutOfRange, "offset %d: want less than its %d bytes", offset, size)
	}
	return body[offset : offset+min(length, size-offset) : offset+min(length, size-offset)], nil
}

// whole returns the body of a reply that holds an object.
func (re reply) whole() ([]byte, error) {
	if re.status != http.StatusOK || re.header.Get("Etag") == "" {
		return nil, re.strange("an object")
	}
	return re.verified()
}

// part returns the body of a reply that holds the bytes from offset to last.
func (re reply) part(offset, last int64) ([]byte, error) {
	var from, to, size int64
	n, err := fmt.Sscanf(re.header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
	switch {
	case n != 3 || err != nil || re.header.Get("Etag") == "":
		return nil, re.strange("a part of an object")
	case size >= 0 && offset >= size:
		return nil, fault.New(fault.OutOfRange, "offset %d: want less than its %d bytes", offset, size)
	case from != offset || to != min(last, size-1) || int64(len(re.body)) != to-from+1:
		return nil, fault.New(fault.Transient, "got %d bytes, said to be %d to %d of %d; want %d to %d", len(re.body), from, to, size, offset, min(last, size-1))
	case from == 0 && to == size-1:
		return re.verified()
	}
	return re.body, nil
}

// verified returns a whole object if it agrees with the checksum that the store
// keeps of it, if it does. A longer one than ours is one of parts.
func (re reply) verified() ([]byte, error) {
	want, got := re.header.Get(checksumHeader), checksum(re.body)
	if want != got && len(want) == len(got) {
		return nil, fault.New(fault.Corrupt, "its %d bytes have CRC-32C %s: want %s", len(re.body), got, want)
	}
	return re.body, nil
}

func (re reply) strange(want string) error {
	return fault.New(fault.Transient, "%w: status %d without what belongs to %s: want an S3 server at the endpoint", objstore.ErrRefused, re.status, want)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns a body's CRC-32C as the header has it.
func checksum(body []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli)))
}
