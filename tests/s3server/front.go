package main

import (
	"net"
	"sync"
	"time"
)

// front passes connections on to a server, and makes it look far away: what is
// sent to it arrives later, and all connections together, each way, carry so many
// bytes a second at most.
type front struct {
	target      string
	delay       time.Duration
	there, back link
}

// link is one way of a network that is shared by all connections.
type link struct {
	bytesPerSecond float64 // 0: no bound

	mu   sync.Mutex
	free time.Time // when what was sent before is through
}

// through returns when bytes that are sent now are through.
func (l *link) through(bytes int) time.Time {
	now := time.Now()
	if l.bytesPerSecond == 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(bytes) / l.bytesPerSecond * float64(time.Second)))
	return l.free
}

func (f *front) serve(l net.Listener) error {
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", f.target)
			if err != nil {
				return
			}
			defer server.Close()
			var both sync.WaitGroup
			both.Go(func() { carry(server, client, &f.there, f.delay) })
			both.Go(func() { carry(client, server, &f.back, 0) })
			both.Wait()
		}()
	}
}

// carry copies a stream; what is read arrives a delay later, however much else is
// on the way.
func carry(to, from net.Conn, over *link, delay time.Duration) {
	type parcel struct {
		bytes []byte
		due   time.Time
	}
	onTheWay := make(chan parcel, 4096)
	var arrival sync.WaitGroup
	arrival.Go(func() {
		for p := range onTheWay {
			time.Sleep(time.Until(p.due)) // poll
			if _, err := to.Write(p.bytes); err != nil {
				_ = from.Close() // nobody wants the rest
				for range onTheWay {
				}
			}
		}
		if half, ok := to.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	})
	for {
		buffer := make([]byte, 64<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			onTheWay <- parcel{buffer[:n], over.through(n).Add(delay)}
		}
		if err != nil {
			break // the end, or a broken connection
		}
	}
	close(onTheWay)
	arrival.Wait()
}
