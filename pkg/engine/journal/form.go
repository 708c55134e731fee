package journal

import "github.com/holkas-io/holkas/pkg/vlog"

// former forms the records of one write in a buffer.
type former struct {
	ring        ring
	b           []byte
	incarnation vlog.Incarnation
	durable     vlog.LSN
	next        cursor

	n       int      // bytes formed
	headers []header // of the records formed
}

// form forms records with the first of the requests until the buffer or the ring
// ends, in the latter case with a pad, and returns how many it took. It takes at
// least one unless it forms a pad.
func (f *former) form(group []*request) (n int) {
	for n < len(group) {
		next := f.share(group[n:])
		if next == 0 {
			break
		}
		f.record(group[n : n+next])
		n += next
		if f.ring.pos(f.next.at) == 0 {
			break // the next record is at the beginning of the ring: another write
		}
	}
	return n
}

// share returns how many requests the next record takes: none if the buffer is
// full, or if it pads the ring.
func (f *former) share(group []*request) (n int) {
	var s shape
	for ; n < len(group); n++ {
		t := s
		if t.add(group[n].batch, f.ring.maxBlocks()) && n > 0 || t.bytes > f.ring.toWrap(f.next.at) {
			break
		}
		if int64(f.n)+t.bytes > int64(len(f.b)) {
			return n
		}
		s = t
	}
	if n == 0 && f.n+block <= len(f.b) {
		f.pad()
	}
	return n
}

func (f *former) pad() {
	h := header{cursor: f.next, typ: padRecord, incarnation: f.incarnation, durable: f.durable, bytes: f.ring.toWrap(f.next.at)}
	f.add(h, block)
	// Only the pad's header is written: what follows stays what it was.
}

// record forms one record of the requests' batches.
func (f *former) record(group []*request) {
	h := header{cursor: f.next, typ: changesRecord, incarnation: f.incarnation, durable: f.durable, bytes: block}
	if seal := group[0].batch.Seal; seal != nil {
		h.typ, h.seal = sealRecord, *seal
	}
	for _, r := range group {
		for i := range r.batch.Changes {
			c := &r.batch.Changes[i]
			x := change{kind: c.Kind, first: c.First, count: c.Count}
			if c.Kind == Data {
				c.At = h.end()
				to := f.b[f.n+int(h.bytes):][:len(c.Data)]
				copy(to, c.Data) // and sum the copy: what is summed is what is written
				x.sums = make([]uint32, c.Count)
				for k := range x.sums {
					x.sums[k] = crc(to[k*block : (k+1)*block])
				}
				h.bytes += int64(len(c.Data))
			}
			h.changes = append(h.changes, x)
		}
	}
	for _, r := range group {
		r.batch.Record, r.batch.End = h.at, h.end()
	}
	f.add(h, int(h.bytes))
}

// add puts the header of a record of which so many bytes are written.
func (f *former) add(h header, written int) {
	b := f.b[f.n : f.n+block]
	clear(b)
	h.put(b)
	f.headers = append(f.headers, h)
	f.next = h.after()
	f.n += written
}
