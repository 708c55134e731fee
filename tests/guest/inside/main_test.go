//go:build guest

package inside

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is the machine's first process, and each engine that a test starts.
func TestMain(m *testing.M) {
	if file := os.Getenv("ENGINE_FILE"); file != "" {
		engine(file)
		return
	}
	if os.Getpid() != 1 {
		fmt.Println("this runs as the first process of a virtual machine: make guest")
		os.Exit(2)
	}
	code := 1
	if err := setUp(); err != nil {
		fmt.Println("set up:", err)
	} else {
		code = m.Run()
	}
	fmt.Printf("\nGUEST-EXIT %d\n", code)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func setUp() error {
	for _, m := range []struct{ kind, on string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := unix.Mount(m.kind, m.on, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.on, err)
		}
	}
	return os.Setenv("PATH", "/bin")
}
