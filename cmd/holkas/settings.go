package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/agent"
	"github.com/holkas-io/holkas/pkg/volume"
)

// What several processes are set by. Each add function adds the flags of one
// thing to a command.

func addNodeID(s *config.Set, into *volume.NodeID) {
	config.AddOne(s, config.One[volume.NodeID]{
		Name: "node-id", Usage: "the `name` of this node", Into: into,
		Parse: volume.ParseNodeID, Required: "the name of this node, as Kubernetes has it",
	})
}

func addEndpoint(s *config.Set, into *string) {
	config.AddOne(s, config.One[string]{
		Name: "endpoint", Usage: "the `unix://` socket of the CSI services", Into: into,
		Parse: parseUnix, Required: "the CSI socket: unix:///an/absolute/path",
	})
}

func addTLS(s *config.Set, into *agent.TLS) {
	for _, f := range []struct {
		name, usage string
		into        *string
	}{
		{"agent-tls-cert", "the certificate `file` (PEM) that is shown to the other side", &into.CertFile},
		{"agent-tls-key", "the private key `file` (PEM) of the certificate", &into.KeyFile},
		{"agent-tls-ca", "the `file` (PEM) of the authority that the other side's certificate must be of", &into.CAFile},
	} {
		config.AddOne(s, config.One[string]{Name: f.name, Usage: f.usage, Into: f.into, Parse: parsePath})
	}
}

// checkTLS reports files that are missing beside those that are given.
func checkTLS(t agent.TLS, faulty func(string) bool) (faults []error) {
	if t == (agent.TLS{}) {
		return nil
	}
	for _, f := range []struct{ flag, file string }{
		{"agent-tls-cert", t.CertFile}, {"agent-tls-key", t.KeyFile}, {"agent-tls-ca", t.CAFile},
	} {
		if f.file == "" && !faulty(f.flag) {
			faults = append(faults, fmt.Errorf("--%s: missing: want all three of --agent-tls-cert, --agent-tls-key and --agent-tls-ca, or none", f.flag))
		}
	}
	return faults
}

func addMetricsAddress(s *config.Set, into *string) {
	config.AddOne(s, config.One[string]{
		Name: "metrics-address", Usage: "the `host:port` at which /metrics and /healthz are served (off by default)", Into: into, Parse: parseListen,
	})
}

// logging is klog's settings.
type logging struct {
	verbosity int
	modules   string
}

func (l *logging) add(s *config.Set) {
	config.AddOne(s, config.One[int]{
		Name: "v", Usage: "how much is logged: `level` 0 state changes, 2 calls, 4 steps, 6 transfers", Into: &l.verbosity, Default: "0",
		Parse: func(text string) (int, error) { return parseCount[int](text, "a level: 0 or more") },
	})
	config.AddOne(s, config.One[string]{
		Name: "vmodule", Usage: "levels for single source files: `file=level,...`", Into: &l.modules,
		Parse: func(text string) (string, error) {
			if err := klogFlags().Set("vmodule", text); err != nil {
				return "", fmt.Errorf("%q: want file=level,... such as announce=4", text)
			}
			return text, nil
		},
	})
}

// start sets up the log and returns a context with a logger that names the
// process.
func (l *logging) start(ctx context.Context, process string) context.Context {
	flags := klogFlags()
	_ = flags.Set("v", strconv.Itoa(l.verbosity))
	_ = flags.Set("vmodule", l.modules)
	logger := klog.LoggerWithValues(klog.Background(), "process", process)
	logger.V(0).Info("Starting", "version", thisBuild().release, "revision", thisBuild().revision)
	return klog.NewContext(ctx, logger)
}

func klogFlags() *flag.FlagSet {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	return flags
}

func parsePath(text string) (string, error) {
	if !filepath.IsAbs(text) || filepath.Clean(text) != text || text == "/" {
		return "", fmt.Errorf("%q: want an absolute path, free of . and .. elements", text)
	}
	return text, nil
}

// maxSocketBytes is what the kernel takes as a socket's path, less what the name
// has in addition while the socket is made.
const maxSocketBytes = 107 - len(".") - len(".new")

func parseUnix(text string) (string, error) {
	path, found := strings.CutPrefix(text, "unix://")
	if _, err := parsePath(path); !found || err != nil || len(path) > maxSocketBytes {
		return "", fmt.Errorf("%q: want unix:///an/absolute/path, the path of at most %d bytes", text, maxSocketBytes)
	}
	return text, nil
}

func parseListen(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 {
		return "", fmt.Errorf("%q: want host:port, with a port from 1 to 65535, or :port for every address", text)
	}
	return text, nil
}

func parseAddress(text string) (string, error) {
	host, _, err := net.SplitHostPort(text)
	if _, portErr := parseListen(text); err != nil || portErr != nil || host == "" || net.ParseIP(host).IsUnspecified() {
		return "", fmt.Errorf("%q: want host:port, as the controllers reach it", text)
	}
	return text, nil
}

func parseCount[N int | int64](text, want string) (N, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q: want %s", text, want)
	}
	return N(n), nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q: want true or false", text)
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q: want a time such as 90s or 5m", text)
	}
	return d, nil
}
