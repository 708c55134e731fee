package s3

import (
	"context"
	"net/http"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Put stores an object, replacing one that is there.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	return fault.Wrap(s.put(ctx, key, body, map[string]string{}), "put", key)
}

// Create stores an object if there is none.
func (s *Store) Create(ctx context.Context, key string, body []byte) error {
	return fault.Wrap(s.put(ctx, key, body, map[string]string{"If-None-Match": "*"}), "create", key)
}

func (s *Store) put(ctx context.Context, key string, body []byte, header map[string]string) error {
	if err := admit(ctx, key); err != nil {
		return err
	}
	sum := checksum(body)
	header[checksumHeader] = sum
	header["Content-Type"] = "application/octet-stream"
	re, err := s.send(ctx, request{method: http.MethodPut, key: key, header: header, body: body})
	if err != nil {
		return err
	}
	// Only what speaks S3 can say that an object is stored.
	if re.status != http.StatusOK || re.header.Get("Etag") == "" {
		return re.strange("a stored object")
	}
	if stored := re.header.Get(checksumHeader); stored != "" && stored != sum {
		return fault.New(fault.Transient, "stored with CRC-32C %.20q: want %s", stored, sum)
	}
	return nil
}
