package registration

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
)

// keeper keeps a socket in its place.
type keeper struct {
	path   string
	server *grpc.Server
	ended  chan error // of a server that ended though it should not

	listener *net.UnixListener
	own      os.FileInfo // of the socket that is ours
	serving  sync.WaitGroup
}

// keep puts the socket in its place, and puts it there again whenever it is
// gone.
func (k *keeper) keep(ctx context.Context, interval time.Duration, refused <-chan string) error {
	if err := k.place(); err != nil {
		return err
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case said := <-refused:
			return refusal(said)
		case err := <-k.ended:
			return err
		case <-ticker.C:
		}
		if _, err := os.Lstat(k.path); !errors.Is(err, fs.ErrNotExist) {
			continue // ours, or that of a newer process
		}
		klog.FromContext(ctx).V(0).Info("Registration socket was removed, making it again", "path", k.path)
		k.listener.Close()
		if err := k.place(); err != nil {
			return err
		}
	}
}

// place makes a socket that is answered, and then gives it its name.
func (k *keeper) place() error {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o750); err != nil {
		return fault.As(fault.Internal, err)
	}
	if err := makeWay(k.path); err != nil {
		return err
	}
	made := hidden(k.path)
	if err := makeWay(made); err != nil {
		return err
	}
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.As(fault.Internal, err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	// The name may be somebody else's by the time that the listener is closed.
	listener.SetUnlinkOnClose(false)
	k.listener = listener
	k.serving.Go(func() {
		// A listener that was closed for its successor is not a failure.
		if err := k.server.Serve(listener); err != nil && !errors.Is(err, net.ErrClosed) {
			k.ended <- fault.As(fault.Internal, err)
		}
	})
	return k.rename(made)
}

func (k *keeper) rename(made string) error {
	if err := os.Chmod(made, 0o600); err != nil {
		return fault.As(fault.Internal, err)
	}
	own, err := os.Lstat(made)
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	k.own = own
	return fault.As(fault.Internal, os.Rename(made, k.path))
}

// makeWay sees that nothing but a socket is replaced.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.As(fault.Internal, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fault.New(fault.Precondition, "%s is not a socket: remove it", path)
	}
	return nil
}

// drop ends listening and removes the socket if it is ours.
func (k *keeper) drop() {
	if k.listener != nil {
		k.listener.Close()
	}
	k.serving.Wait()
	if now, err := os.Lstat(k.path); err == nil && k.own != nil && os.SameFile(now, k.own) {
		_ = os.Remove(k.path) // what is left is replaced at the next start
	}
}
