//go:build crashpoint

package crashpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var passed atomic.Int64

// Here marks a place between two durable steps. The file that HOLKAS_CRASH_FILE
// names, if it exists, holds "<k>": the process dies at the k-th place that it
// passes after the file was (re)written, and removes the file just before. If
// HOLKAS_CRASH_LOG names a file, each place passed is appended to it.
func Here(name string) {
	if log := os.Getenv("HOLKAS_CRASH_LOG"); log != "" {
		if f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(f, name)
			f.Close()
		}
	}
	armed := os.Getenv("HOLKAS_CRASH_FILE")
	body, err := os.ReadFile(armed)
	if err != nil {
		passed.Store(0)
		return
	}
	k, err := strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
	if err != nil || passed.Add(1) < k {
		return
	}
	os.Remove(armed)
	fmt.Fprintln(os.Stderr, "crashpoint: dying at", name)
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
