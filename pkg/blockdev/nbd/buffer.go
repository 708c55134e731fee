package nbd

import (
	"math/bits"
	"sync"
	"unsafe"
)

// pageBytes is what memory that a Disk gets is aligned to.
const pageBytes = 4096

// buffer is memory for one request's bytes, at a multiple of pageBytes, with
// room for a reply's head directly before them, so that a read is answered by
// one call.
type buffer struct{ memory []byte }

// payload is the memory of the first n bytes.
func (b *buffer) payload(n uint32) []byte { return b.memory[pageBytes : pageBytes+int(n)] }

// reply is the memory of a reply's head and the n bytes after it.
func (b *buffer) reply(n uint32) []byte {
	return b.memory[pageBytes-replyBytes : pageBytes+int(n)]
}

func newBuffer(n int) *buffer {
	n += pageBytes
	b := make([]byte, n+pageBytes-1)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (pageBytes - 1)
	return &buffer{b[skip : skip+n : skip+n]}
}

// pool recycles buffers by size: powers of two from 4 KiB to 1 MiB. What is
// larger is rare and made each time.
type pool struct{ classes [9]sync.Pool }

// class is the class of n bytes and its size.
func class(n uint32) (index, bytes int) {
	index = max(bits.Len32(max(n, 1)-1), 12) - 12
	return index, 1 << (index + 12)
}

func (p *pool) get(n uint32) *buffer {
	index, bytes := class(n)
	if index >= len(p.classes) {
		return newBuffer(int(n))
	}
	if b, ok := p.classes[index].Get().(*buffer); ok {
		return b
	}
	return newBuffer(bytes)
}

func (p *pool) put(b *buffer) {
	index, bytes := class(uint32(len(b.memory) - pageBytes))
	if index < len(p.classes) && bytes == len(b.memory)-pageBytes {
		p.classes[index].Put(b)
	}
}

// budget bounds the bytes of the requests under way. Those that wait are served
// in turn, so that a large one is not passed by for ever; one that is larger
// than the budget has all of it.
type budget struct {
	turn sync.Mutex // held by the one that waits next
	mu   sync.Mutex
	free int64
	size int64
	more *sync.Cond
}

func newBudget(size int64) *budget {
	b := &budget{free: size, size: size}
	b.more = sync.NewCond(&b.mu)
	return b
}

// take waits for room and returns how much of it to give back.
func (b *budget) take(n uint32) int64 {
	b.turn.Lock()
	defer b.turn.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	want := min(int64(n), b.size)
	for b.free < want {
		b.more.Wait()
	}
	b.free -= want
	return want
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.more.Signal()
}
