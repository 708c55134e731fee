package journal

import "context"

// request is an append in the queue. Its fields are guarded by Journal.mu until
// the wake-up, which says either that it is done or that it leads.
type request struct {
	batch *Batch
	need  int64         // bytes reserved
	wake  chan struct{} // one token: done, or lead
	done  bool
	err   error
}

// Append writes a batch behind all earlier ones. When it returns nil, the batch
// has its position and survives this process; Flush makes it survive the loss of
// power. The batch and its data are the caller's again when Append returns, and
// must not change before.
//
// Appends that wait while another writes are written together, in one go. When
// the journal fills up, Append waits, see the package's comment; if ctx ends
// before the batch is taken up to be written, nothing was appended. Invalid;
// Precondition if the journal is not begun or closed; Internal if it failed.
func (j *Journal) Append(ctx context.Context, b *Batch) error {
	if err := b.validate(j.ring.maxBlocks()); err != nil {
		return err
	}
	r := &request{batch: b, need: (1 + b.blocks()) * block, wake: make(chan struct{}, 1)}
	if err := j.admit(ctx, r.need); err != nil {
		return err
	}
	j.mu.Lock()
	j.queue = append(j.queue, r)
	lead := !j.leading
	j.leading = true
	j.mu.Unlock()
	if !lead {
		select {
		case <-r.wake:
		case <-ctx.Done():
			if j.withdraw(r) {
				return ctx.Err()
			}
			<-r.wake
		}
	}
	if !r.done {
		j.lead()
	}
	return r.err
}

// withdraw takes r out of the queue, if it is still there and does not lead.
func (j *Journal) withdraw(r *request) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, q := range j.queue {
		if q == r && len(r.wake) == 0 {
			j.queue = append(j.queue[:i], j.queue[i+1:]...)
			j.pace.reserved -= r.need
			return true
		}
	}
	return false
}

// lead writes the group at the head of the queue, the caller's request first, and
// hands the lead to the next one.
func (j *Journal) lead() {
	j.mu.Lock()
	group := j.takeLocked()
	err := j.err
	j.mu.Unlock()
	rest := group
	for len(rest) > 0 && err == nil {
		var n int
		n, err = j.write(rest)
		for _, r := range rest[:n] {
			if r.batch.Apply != nil {
				r.batch.Apply()
			}
		}
		rest = rest[n:]
	}
	for _, r := range rest {
		r.err = err
	}
	j.finishGroup(group)
}

// finishGroup tells a group's requests that it ended and passes the lead on.
func (j *Journal) finishGroup(group []*request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range group {
		j.pace.reserved -= r.need
		r.done = true
		r.wake <- struct{}{}
	}
	if len(j.queue) > 0 {
		j.queue[0].wake <- struct{}{}
		return
	}
	j.leading = false
	if j.idle != nil {
		close(j.idle)
		j.idle = nil
	}
}

// takeLocked takes from the queue what one write holds, or a little more: pads
// are not known yet.
func (j *Journal) takeLocked() []*request {
	if j.err != nil {
		group := j.queue
		j.queue = nil
		return group
	}
	var s shape
	n := 0
	for ; n < len(j.queue); n++ {
		if s.add(j.queue[n].batch, j.ring.maxBlocks()); n > 0 && s.bytes > j.ring.maxRecord() {
			break
		}
	}
	group := append([]*request(nil), j.queue[:n]...)
	j.queue = append(j.queue[:0], j.queue[n:]...)
	j.stats.Batches += uint64(n)
	return group
}

// shape tells how batches share records.
type shape struct {
	bytes  int64 // of all records
	blocks int64 // of data in the last record
	body   int   // bytes of the last record's body
	open   bool  // the last record takes more
}

// add adds a batch and reports whether it begins a record.
func (s *shape) add(b *Batch, maxBlocks int64) (begins bool) {
	blocks := b.blocks()
	body := len(b.Changes)*changeBytes + int(blocks)*4
	begins = !s.open || b.Seal != nil || s.blocks+blocks > maxBlocks || s.body+body > bodyBytes
	if begins {
		s.bytes, s.blocks, s.body = s.bytes+block, 0, 0
	}
	s.bytes += blocks * block
	s.blocks, s.body, s.open = s.blocks+blocks, s.body+body, b.Seal == nil
	return begins
}

// write writes records with the first of the requests, as many as fit before the
// end of the ring, and returns how many; 0 if only a pad fitted.
func (j *Journal) write(group []*request) (int, error) {
	if err := j.makeWay(); err != nil {
		return 0, err
	}
	buffer := j.buffer()
	defer j.buffers.Put(buffer)
	j.mu.Lock()
	f, err := former{ring: j.ring, b: *buffer, incarnation: j.incarnation, durable: j.durable, next: j.end}, j.err
	j.mu.Unlock()
	if err != nil {
		return 0, err
	}
	start := f.next.at
	n := f.form(group)
	if _, err := j.file.WriteAt(f.b[:f.n], j.ring.offset(start)); err != nil {
		return 0, j.fail("write", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range f.headers {
		j.keepSums(&f.headers[i])
	}
	j.end = f.next
	j.writes++
	j.stats.Writes++
	j.stats.Records += uint64(len(f.headers))
	j.stats.Bytes += uint64(f.n)
	return n, nil
}

// makeWay waits until the next write may be made, whatever its size: the ring is
// filled so far, and the end does not get too far ahead of what is durable.
func (j *Journal) makeWay() error {
	j.mu.Lock()
	end := int64(j.end.at) + j.ring.maxRecord()
	far := end-int64(j.durable) > j.ring.window()
	j.mu.Unlock()
	if !j.filler.reached(min(end, j.ring.size)) {
		return j.State().Err
	}
	if far {
		return j.Flush(context.Background()) // bounded by one sync
	}
	return nil
}
