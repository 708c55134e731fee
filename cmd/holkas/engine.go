package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/agent"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

type engineOptions struct {
	node           volume.NodeID
	catalogue      catalogue
	endpoints      []agent.Endpoint
	address        string // that is announced
	tls            agent.TLS
	pools          []local.PoolConfig
	objects        objectOptions
	stateDir       string
	maxVolumes     int
	metricsAddress string
	logging        logging
}

func engineCommand() command {
	var o engineOptions
	s := &config.Set{Check: func(faulty func(string) bool) []error { return o.check(faulty) }}
	addNodeID(s, &o.node)
	o.catalogue.add(s)
	o.catalogue.addCreate(s)
	config.AddList(s, config.List[agent.Endpoint]{
		Name: "agent-endpoint", Usage: "where controllers and the node service reach this engine: `unix:///path`, or tcp://host:port with TLS; may be given several times",
		Into: &o.endpoints, Parse: agent.ParseEndpoint, Required: "where this engine is reached: unix:///an/absolute/path",
	})
	config.AddOne(s, config.One[string]{
		Name: "agent-address", Usage: "the `host:port` that is announced to the controllers (default: the first --agent-endpoint)", Into: &o.address, Parse: parseAddress,
	})
	addTLS(s, &o.tls)
	config.AddList(s, config.List[local.PoolConfig]{
		Name: "pool", Usage: "a pool: `name=/path` of a folder on XFS with reflink or on btrfs; may be given several times; in the file also an object with name and path, or name, device, mountPath and format (xfs or btrfs: a blank device is formatted; without it never)",
		Into: &o.pools, Parse: parsePool, Fields: true,
	})
	o.objects.add(s)
	config.AddOne(s, config.One[string]{
		Name: "state-dir", Usage: "the `directory` in which the engine remembers its pools, so that one that is not mounted is never taken for a new one", Into: &o.stateDir,
		Default: "/var/lib/holkas/engine", Parse: parsePath,
	})
	config.AddOne(s, config.One[int]{
		Name: "max-volumes", Usage: "how many volumes can be attached at the same time; 0 is no limit", Into: &o.maxVolumes,
		Default: "0", Parse: func(text string) (int, error) { return parseCount[int](text, "a whole number, 0 (no limit) or more") },
	})
	addMetricsAddress(s, &o.metricsAddress)
	o.logging.add(s)
	return command{
		name: "engine", short: "Run a node's data plane",
		long: "Has the volumes of a node: opens its pools, opens object volumes out of the repository,\n" +
			"gives devices, makes snapshots. It answers\n" +
			"the node service and the controllers. It starts, and the volumes can be used, while the\n" +
			"repository is out of reach; it announces itself there as soon as it can. Devices stay\n" +
			"attached when it ends.",
		example: "  holkas engine --node-id=node-1 --repository=dir:/var/lib/holkas/repository \\\n" +
			"    --agent-endpoint=unix:///run/holkas/agent.sock --pool=fast=/srv/nvme\n" +
			"  holkas engine --config=/etc/holkas/engine.yaml\n" +
			"  holkas engine --node-id=node-1 --repository='s3://bucket/site-1?region=eu-central-1' \\\n" +
			"    --agent-endpoint=unix:///run/holkas/agent.sock --agent-endpoint=tcp://0.0.0.0:7443 --agent-address=10.0.0.1:7443 \\\n" +
			"    --agent-tls-cert=/etc/holkas/node-node-1.crt --agent-tls-key=/etc/holkas/node-node-1.key \\\n" +
			"    --agent-tls-ca=/etc/holkas/ca.crt --pool=fast=/srv/nvme",
		settings: s,
		run:      func(ctx context.Context, _ streams, _ string) error { return runEngine(ctx, o) },
	}
}

func parsePool(text string) (local.PoolConfig, error) {
	name, path, found := strings.Cut(text, "=")
	if !found {
		return local.PoolConfig{}, fmt.Errorf("%q: want name=/an/absolute/path", text)
	}
	return local.PoolConfig{Name: name, Path: path}, nil
}

// check looks at the settings together.
func (o *engineOptions) check(faulty func(string) bool) []error {
	faults := checkTLS(o.tls, faulty)
	say := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	tcp := o.tcpEndpoint()
	switch {
	case tcp != nil && o.tls == (agent.TLS{}):
		say("--agent-endpoint: %q: is TCP, which is served with mutual TLS only: want --agent-tls-cert, --agent-tls-key and --agent-tls-ca", tcp)
	case tcp == nil && o.address != "" && len(o.endpoints) > 0:
		say("--agent-address: %q: but no --agent-endpoint is TCP: want one of tcp://host:port", o.address)
	}
	if len(o.pools) == 0 && o.objects.dir == "" && !faulty("pool") && !faulty("object-dir") {
		say("--pool: missing: want at least one pool, name=/an/absolute/path, or --object-dir for volumes that live in the repository, or both")
	}
	// What the backend says of its pools.
	if err := (local.Options{Pools: o.pools, Attacher: &loop.Attacher{}}).Validate(); err != nil && len(o.pools) > 0 {
		for _, err := range each(err) {
			say("--pool: %w", err)
		}
	}
	if len(o.endpoints) == 0 || faulty("agent-address") {
		return faults
	}
	address := o.announced()
	if host, _, err := net.SplitHostPort(address); err == nil && !strings.HasPrefix(address, "unix://") {
		switch {
		case host == "" || net.ParseIP(host).IsUnspecified():
			say("--agent-address: missing: want the host:port at which controllers reach %q", tcp)
		case o.catalogue.at.dir != "" && !loopback(host):
			say("--repository: \"dir:%s\": is a directory, which serves one machine, and the engine announces %q to other machines: want a bucket, s3://bucket/prefix, or a unix:// endpoint or a loopback address", o.catalogue.at.dir, address)
		}
	}
	return faults
}

// each returns the errors that one was joined from.
func each(err error) (all []error) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	for _, err := range joined.Unwrap() {
		all = append(all, each(err)...)
	}
	return all
}

func (o *engineOptions) tcpEndpoint() *agent.Endpoint {
	for i, e := range o.endpoints {
		if e.Network == "tcp" {
			return &o.endpoints[i]
		}
	}
	return nil
}

// announced is the address under which the node's record has this engine.
func (o *engineOptions) announced() string {
	switch e := o.endpoints[0]; {
	case o.address != "":
		return o.address
	case e.Network == "tcp":
		return e.Address
	default:
		return e.String()
	}
}

func loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// runEngine puts the engine process together and runs it.
func runEngine(ctx context.Context, o engineOptions) (ended error) {
	ctx = o.logging.start(ctx, "engine")
	machine, err := bootID()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.stateDir, 0o700); err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	registry := newRegistry()
	repositories, err := o.catalogue.opener(registry)
	if err != nil {
		return err
	}
	defer repositories.close()
	repositories.open = serially(repositories.open)
	backends := map[string]backend.Backend{}
	pools := func(context.Context) []repository.Pool { return nil }
	if len(o.pools) > 0 {
		volumes, err := local.Open(ctx, local.Options{Pools: o.pools, Attacher: &loop.Attacher{}, StateDir: o.stateDir, MaxVolumes: o.maxVolumes})
		if err != nil {
			return err
		}
		defer func() { ended = errors.Join(ended, volumes.Close(context.WithoutCancel(ctx))) }()
		registry.MustRegister(newEngineMetrics(ctx, volumes, o.pools))
		backends[volume.BackendLocal] = volumes
		pools = func(ctx context.Context) []repository.Pool { return recordedPools(volumes.Pools(ctx)) }
	}
	if o.objects.dir != "" {
		volumes, err := o.objects.open(ctx, o.node, o.maxVolumes, repositories, registry)
		if err != nil {
			return err
		}
		defer func() { ended = errors.Join(ended, volumes.close(context.WithoutCancel(ctx))) }()
		backends[volume.BackendObject] = volumes
	}
	backends = measurePauses(readied(backends), registry)
	info := func(ctx context.Context) agent.Info {
		return agent.Info{
			Node: o.node, Backends: slices.Sorted(maps.Keys(backends)), Pools: pools(ctx),
			MaxVolumes: int64(o.maxVolumes), Version: thisBuild().release,
		}
	}
	server, err := agent.NewServer(agent.ServerOptions{Info: info, Backends: backends, TLS: o.tls, Registerer: registry})
	if err != nil {
		return err
	}
	a := announcer{
		open: repositories.open, backends: backends, oneDir: o.catalogue.at.dir != "",
		node: func(ctx context.Context) repository.Node {
			i := info(ctx)
			return repository.Node{
				ID: i.Node, Address: o.announced(), Machine: machine,
				Backends: i.Backends, Pools: i.Pools, MaxVolumes: i.MaxVolumes, Changed: time.Now().UTC().Round(0),
			}
		},
	}
	parts, err := metricsPart(o.metricsAddress, registry)
	if err != nil {
		return err
	}
	return runParts(ctx, stopLimit, append(parts,
		part{"agent API", func(ctx context.Context) error { return server.Serve(ctx, o.endpoints...) }},
		part{"announcement", a.run})...)
}

// readied has volumes for readers on many nodes ready when they are made, by the
// backends that have such.
func readied(backends map[string]backend.Backend) map[string]backend.Backend {
	for name, b := range backends {
		if volume.Shared(name) {
			backends[name] = node.Settling(b)
		}
	}
	return backends
}

func recordedPools(pools []local.Pool) []repository.Pool {
	all := make([]repository.Pool, len(pools))
	for i, p := range pools {
		all[i] = repository.Pool{Name: p.Name, Type: p.Type}
	}
	return all
}

// bootID names this machine until it is started again.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
