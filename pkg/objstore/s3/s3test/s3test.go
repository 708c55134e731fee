// Package s3test runs a real S3 server for tests, as a process of its own: that of
// tests/s3server.
package s3test

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// The server's one account, and its region.
const (
	AccessKeyID     = "holkas-test"
	SecretAccessKey = "holkas-test-secret"
	Region          = "us-east-1"
	// HostDomain is the domain under which buckets have names of their own.
	HostDomain = "s3.localhost"
)

// Server is a running server.
type Server struct {
	// Endpoint is its URL, without TLS.
	Endpoint string

	scratch  string
	flags    []string
	command  *exec.Cmd
	lifeline io.Closer
}

// Start builds and starts a server in a new directory on a disk. The flags are
// those of tests/s3server: "-delay", "20ms".
func Start(flags ...string) (*Server, error) {
	scratch, err := os.MkdirTemp("/var/tmp", "holkas-s3-")
	if err != nil {
		return nil, err
	}
	s := &Server{scratch: scratch, flags: flags}
	if err := s.build(); err != nil {
		os.RemoveAll(scratch)
		return nil, err
	}
	if err := s.start(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) build() error {
	build := exec.Command("go", "build", "-o", s.program(), ".")
	build.Dir = source()
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build tests/s3server: %w\n%s", err, out)
	}
	return os.Mkdir(s.data(), 0o700)
}

func (s *Server) start() error {
	s.command = exec.Command(s.program(), append(s.flags, "-dir", s.data(), "-access-key", AccessKeyID, "-secret-key", SecretAccessKey)...)
	s.command.Stderr = os.Stderr
	lifeline, err := s.command.StdinPipe() // it ends when we do, however we do
	if err != nil {
		return err
	}
	s.lifeline = lifeline
	said, err := s.command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.command.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server ended before it listened: %w", s.command.Wait())
	}
	s.Endpoint = strings.TrimSpace(line)
	return nil
}

// Kill kills the server and waits for its end. What it stored stays.
func (s *Server) Kill() {
	if s.command == nil || s.command.Process == nil {
		return
	}
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
	_ = s.lifeline.Close()
	s.command = nil
}

// Restart starts a server again that was killed, at its old endpoint.
func (s *Server) Restart() error {
	s.flags = append(s.flags, "-listen", strings.TrimPrefix(s.Endpoint, "http://"))
	return s.start()
}

// Stop kills the server and removes what it kept.
func (s *Server) Stop() {
	s.Kill()
	os.RemoveAll(s.scratch)
}

// Bucket makes a new, empty bucket.
func (s *Server) Bucket(name string) error { return os.Mkdir(s.Folder(name), 0o700) }

// URL returns where a repository in a bucket is, "bucket/prefix", with its
// credentials in an existing folder of the caller's.
func (s *Server) URL(bucketAndPrefix, folder string) (string, error) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": AccessKeyID, "AWS_SECRET_ACCESS_KEY": SecretAccessKey} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(value), 0o600); err != nil {
			return "", err
		}
	}
	q := url.Values{"endpoint": {s.Endpoint}, "allow-http": {"true"}, "credentials": {"folder:" + folder}}
	return "s3://" + bucketAndPrefix + "?" + q.Encode(), nil
}

// Folder returns where the server keeps the objects of a bucket, as files.
func (s *Server) Folder(bucket string) string { return filepath.Join(s.data(), bucket) }

func (s *Server) program() string { return filepath.Join(s.scratch, "s3server") }

func (s *Server) data() string { return filepath.Join(s.scratch, "buckets") }

// source returns the folder of the server's module.
func source() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../../../tests/s3server")
}
