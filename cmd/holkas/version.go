package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

// build says what this program was made from.
type build struct {
	release  string // "v1.2.3", or "devel"
	revision string // of the source; "+changes" if it was not committed
	compiler string
}

func thisBuild() build {
	b := build{release: version, compiler: runtime.Version()}
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		info = &debug.BuildInfo{}
	}
	if v := info.Main.Version; b.release == "" && v != "(devel)" {
		b.release = v
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.revision = s.Value[:min(12, len(s.Value))] + b.revision
		case s.Key == "vcs.modified" && s.Value == "true":
			b.revision += "+changes"
		}
	}
	b.release = cmp.Or(b.release, "devel")
	b.revision = cmp.Or(b.revision, "unknown")
	return b
}

// String is one line.
func (b build) String() string {
	return fmt.Sprintf("holkas %s (revision %s, %s, %s/%s)", b.release, b.revision, b.compiler, runtime.GOOS, runtime.GOARCH)
}

func versionCommand() command {
	return command{
		name: "version", short: "Print the version",
		long:     "Prints the release, the revision of the source, and the compiler.",
		example:  "  holkas version",
		settings: &config.Set{},
		run: func(_ context.Context, s streams, _ string) error {
			_, err := fmt.Fprintln(s.out, thisBuild())
			return err
		},
	}
}
