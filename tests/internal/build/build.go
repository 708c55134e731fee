// Package build makes the holkas program once for a test run.
package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Holkas builds cmd/holkas with build tags into a new directory and returns the
// program and a function that removes it.
func Holkas(tags string) (program string, remove func(), err error) {
	root, err := root()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "holkas-build-")
	if err != nil {
		return "", nil, err
	}
	program = filepath.Join(dir, "holkas")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", program, "./cmd/holkas")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("go build ./cmd/holkas: %w\n%s", err, out)
	}
	return program, func() { os.RemoveAll(dir) }, nil
}

// root finds the product's module above the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "cmd", "holkas")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no cmd/holkas above the working directory")
}
