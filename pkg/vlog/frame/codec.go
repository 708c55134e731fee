package frame

import (
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Codec compresses and hashes. One serves all volumes of a process; its memory
// is bounded by its concurrency. All methods may be called at once.
type Codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	hashers sync.Pool
	scratch sync.Pool
}

// NewCodec returns a codec that compresses and decompresses so many frames at
// once; further ones wait.
func NewCodec(concurrency int) (*Codec, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true), zstd.WithWindowSize(MaxPayload), zstd.WithLowerEncoderMem(true), zstd.WithEncoderConcurrency(concurrency))
	if err != nil {
		return nil, fault.New(fault.Invalid, "codec of %d at once: %w", concurrency, err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(concurrency), zstd.WithDecoderMaxMemory(MaxPayload),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fault.New(fault.Invalid, "codec of %d at once: %w", concurrency, err)
	}
	return &Codec{
		encoder: e, decoder: d,
		hashers: sync.Pool{New: func() any { return blake3.New() }},
		scratch: sync.Pool{New: func() any { b := make([]byte, 0, MaxBytes); return &b }},
	}, nil
}

// Close ends the codec. Nothing may use it any more.
func (c *Codec) Close() {
	_ = c.encoder.Close()
	c.decoder.Close()
}

// minimumGain is the least part of a payload, 1/8, that compression must save:
// below it the time to decompress at every read is not worth it.
const minimumGain = 8

// compress returns payload compressed into scratch, or payload itself where that
// does not pay.
func (c *Codec) compress(scratch, payload []byte) ([]byte, Compression) {
	small := c.encoder.EncodeAll(payload, scratch[:0])
	if len(small) > len(payload)-len(payload)/minimumGain {
		return payload, None
	}
	return small, Zstd
}

// decompress appends exactly blocks blocks to dst, which has room for them.
func (c *Codec) decompress(dst, payload []byte, blocks int) ([]byte, error) {
	want := blocks * vlog.BlockSize
	out, err := c.decoder.DecodeAll(payload, dst[len(dst):len(dst):len(dst)+want])
	if err != nil {
		return nil, fault.New(fault.Corrupt, "zstd payload of %d bytes: %w", len(payload), err)
	}
	if len(out) != want {
		return nil, fault.New(fault.Corrupt, "zstd payload: got %d bytes, want %d", len(out), want)
	}
	return dst[:len(dst)+want], nil
}

// digest returns the first 16 bytes of BLAKE3(payload | binding).
func (c *Codec) digest(payload []byte, binding [bindingBytes]byte) (t Tag) {
	h := c.hashers.Get().(*blake3.Hasher)
	defer c.hashers.Put(h)
	h.Reset()
	_, _ = h.Write(payload)
	_, _ = h.Write(binding[:])
	var sum [32]byte
	h.Sum(sum[:0])
	copy(t[:], sum[:])
	return t
}
