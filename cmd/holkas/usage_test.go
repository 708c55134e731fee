package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// try runs the program in this process.
func try(t *testing.T, in string, args ...string) (code int, out, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	must(t, os.WriteFile(file, []byte("pool:\n- {name: a, device: /dev/x, format: ext4, mountPath: b}\n- {name: a, path: /x, colour: red}\nnode-id: a b\nintent-timeout: 5\n"), 0o600))
	engine := []string{"engine", "--node-id=n", "--repository=dir:/r", "--pool=a=/x"}
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		want []string // the lines between the first and the last
	}{
		{"no such command", []string{"engin"}, nil, []string{`unknown command "engin" for "holkas"`, "", "Did you mean this?", "\tengine", ""}},
		{"nothing given", []string{"node"}, nil, []string{
			"--node-id: missing: want the name of this node, as Kubernetes has it (also as HOLKAS_NODE_ID, or node-id in the file of --config)",
			"--endpoint: missing: want the CSI socket: unix:///an/absolute/path (also as HOLKAS_ENDPOINT, or endpoint in the file of --config)",
			"--agent-endpoint: missing: want the socket of this node's engine: unix:///an/absolute/path (also as HOLKAS_AGENT_ENDPOINT, or agent-endpoint in the file of --config)",
		}},
		{"all wrong", []string{"controller", "--endpoint=/csi.sock", "--repository=/r", "--intent-timeout=-1s", "--agent-tls-key=k", "--agent-tls-ca=/ca", "--metrics-address=9090", "stray", "--nonsense"},
			map[string]string{"HOLKAS_V": "high", "HOLKAS_VMODULE": "x"}, []string{
				"--nonsense: no such flag",
				`"stray": want no argument here: a setting is a flag`,
				`HOLKAS_V: "high": want a level: 0 or more`,
				`HOLKAS_VMODULE: "x": want file=level,... such as announce=4`,
				`--endpoint: "/csi.sock": want unix:///an/absolute/path, the path of at most 102 bytes`,
				`--repository: "/r": want dir:/an/absolute/path or s3://bucket/prefix`,
				`--intent-timeout: "-1s": want a time such as 90s or 5m`,
				`--agent-tls-key: "k": want an absolute path, free of . and .. elements`,
				`--metrics-address: "9090": want host:port, with a port from 1 to 65535, or :port for every address`,
				"--agent-tls-cert: missing: want all three of --agent-tls-cert, --agent-tls-key and --agent-tls-ca, or none",
			}},
		{"a file", []string{"engine", "--config=" + file, "--agent-endpoint=unix:///s", "--max-volumes=-1"}, map[string]string{"HOLKAS_REPOSITORY": "dir:r"}, []string{
			"F: intent-timeout: unknown: want one of node-id, repository, create-repository, agent-endpoint, agent-address, agent-tls-cert, agent-tls-key, agent-tls-ca, pool, object-dir, object-run-dir, cache-size, journal-size, object-memory, object-device, state-dir, max-volumes, metrics-address, v, vmodule",
			`F: node-id: node id "a b": want 1 to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends`,
			"F: pool: [1]: colour: unknown: want one of name, path, device, format, mountPath",
			`HOLKAS_REPOSITORY: "dir:r": want dir:/an/absolute/path or s3://bucket/prefix`,
			`--max-volumes: "-1": want a whole number, 0 (no limit) or more`,
		}},
		{"pools", []string{"engine", "--node-id=n", "--repository=dir:/r", "--agent-endpoint=unix:///s", "--pool=a=x", "--pool=a=/y"}, nil, []string{
			`--pool: pools[0].path: "x": want an absolute, clean path`,
			`--pool: pools[1].name: "a": is the name of another pool: want a name of its own`,
		}},
		{"neither pool nor objects", []string{"engine", "--node-id=n", "--repository=dir:/r", "--agent-endpoint=unix:///s"}, nil, []string{
			"--pool: missing: want at least one pool, name=/an/absolute/path, or --object-dir for volumes that live in the repository, or both"}},
		{"objects", []string{"engine", "--node-id=n", "--repository=dir:/r", "--agent-endpoint=unix:///s", "--object-dir=/o", "--cache-size=1k", "--journal-size=1", "--object-memory=1Mi", "--object-device=tape"}, nil, []string{
			`--cache-size: "1k": want 0, or bytes from 1048576 to 70368744177664 such as 512Mi or 10Gi, in multiples of 4096`,
			`--journal-size: "1": want 0, or bytes from 262144 to 1099511627776 such as 512Mi or 10Gi, in multiples of 4096`,
			`--object-memory: "1Mi": want 0, or bytes from 67108864 to 1099511627776 such as 512Mi or 10Gi, in multiples of 4096`,
			`--object-device: "tape": want auto, fuse or nbd`,
		}},
		{"no pool", []string{"engine", "--node-id=n", "--repository=dir:/r", "--agent-endpoint=unix:///s", "--pool=/y"}, nil, []string{`--pool: "/y": want name=/an/absolute/path`}},
		{"TCP without certificates", append(engine, "--agent-endpoint=tcp://127.0.0.1:7"), nil, []string{
			`--agent-endpoint: "tcp://127.0.0.1:7": is TCP, which is served with mutual TLS only: want --agent-tls-cert, --agent-tls-key and --agent-tls-ca`}},
		{"TCP everywhere", append(engine, "--agent-endpoint=tcp://:7", "--agent-tls-cert=/c", "--agent-tls-key=/k", "--agent-tls-ca=/a"), nil, []string{
			`--agent-address: missing: want the host:port at which controllers reach "tcp://:7"`}},
		{"a directory for several machines", append(engine, "--agent-endpoint=tcp://:7", "--agent-address=node-1:7", "--agent-tls-cert=/c", "--agent-tls-key=/k", "--agent-tls-ca=/a"), nil, []string{
			`--repository: "dir:/r": is a directory, which serves one machine, and the engine announces "node-1:7" to other machines: want a bucket, s3://bucket/prefix, or a unix:// endpoint or a loopback address`}},
		{"a bucket for several machines", []string{"engine", "--node-id=n", "--pool=a=/x", "--repository=s3://bucket/p", "--agent-endpoint=tcp://:7", "--agent-address=node-1:7",
			"--agent-tls-cert=/c", "--agent-tls-key=/k", "--agent-tls-ca=/a", "--max-volumes=-1"}, nil, []string{
			`--max-volumes: "-1": want a whole number, 0 (no limit) or more`}},
		{"a bucket's URL with secrets", []string{"controller", "--endpoint=unix:///s", "--repository=s3://AKIA:hunter2@bucket/p"}, map[string]string{"HOLKAS_REPOSITORY": "s3://bucket/p?secret-key=hunter2&region=A"}, []string{
			"HOLKAS_REPOSITORY: repository parameter secret-key: want one of endpoint, region, addressing, allow-http, ca-file, sign-payload, credentials, profile; region \"A\": want lower-case letters, digits and '-'",
			"--repository: repository: the URL holds credentials: want them by credentials=environment, role, file:/path or folder:/path",
		}},
		{"something like a bucket's URL", []string{"controller", "--endpoint=unix:///s", "--repository=S3://AKIA:hunter2@bucket/p"}, nil, []string{
			"--repository: want dir:/an/absolute/path or s3://bucket/prefix"}},
		{"an address nobody listens at", append(engine, "--agent-endpoint=unix:///s", "--agent-address=127.0.0.1:7"), nil, []string{
			`--agent-address: "127.0.0.1:7": but no --agent-endpoint is TCP: want one of tcp://host:port`}},
		{"no node", []string{"retire", "--repository=dir:/r"}, nil, []string{"NODE: missing"}},
		{"a bad node", []string{"retire", "--repository=dir:/r", "a b"}, nil, []string{`NODE: node id "a b": want 1 to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends`}},
		{"a demo of nothing", []string{"demo", "--on=zfs", "--scale=0", "--load=1s", "--filesystem=fat"}, nil, []string{
			`--on: "zfs": want one of ["btrfs" "xfs" "object"]`, `--filesystem: "fat": want one of ["ext4" "xfs" "btrfs"]`,
			`--scale: "0": want a whole number from 1 to 100`, `--load: "1s": want a time from 5s to 1h`,
		}},
		{"no certificates", []string{"certs"}, nil, []string{
			"--dir: missing: want the directory of the authority: an absolute path (also as HOLKAS_DIR, or dir in the file of --config)", "nothing to make: want --controller, --operator, --node or --rotate"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			code, out, stderr := try(t, "", c.args...)
			lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(stderr, file, "F")), "\n")
			if code != exitUsage || out != "" || len(lines) < 3 {
				t.Fatalf("exit code %d, output %q, errors %q; want %d, none and some", code, out, stderr, exitUsage)
			}
			for i, line := range lines {
				lines[i] = strings.TrimPrefix(line, "  ")
			}
			got, want := strings.Join(lines[1:len(lines)-1], "\n"), strings.Join(c.want, "\n")
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestDevicePools sees that a pool on a device can be had from the file, and
// that its own faults are named too.
func TestDevicePools(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	must(t, os.WriteFile(file, []byte("pool:\n- {name: a, device: /dev/x, format: ext4, mountPath: b}\n"), 0o600))
	code, _, stderr := try(t, "", "engine", "--node-id=n", "--repository=dir:/r", "--agent-endpoint=unix:///s", "--config="+file)
	for _, want := range []string{`--pool: pools[0].mountPath: "b": want an absolute, clean path`, `--pool: pools[0].format: "ext4": want "xfs", "btrfs"`} {
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, errors %q; want %d and %q", code, stderr, exitUsage, want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, cmd := range newRoot(nil).Commands() {
		if cmd.Hidden || cmd.Name() == "help" {
			continue
		}
		code, out, stderr := try(t, "", cmd.Name(), "--help")
		if code != exitOK || stderr != "" || !strings.Contains(out, "\nExamples:\n  holkas "+cmd.Name()) && !strings.Contains(out, "\nExamples:\n  HOLKAS_") {
			t.Errorf("%s --help: exit code %d, errors %q: want an example in:\n%s", cmd.Name(), code, stderr, out)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		code, out, stderr := try(t, "", args...)
		if code != exitOK || stderr != "" || !strings.HasPrefix(out, "holkas devel (revision ") {
			t.Errorf("%v: exit code %d, output %q, errors %q", args, code, out, stderr)
		}
	}
}

// TestCreateRepository sees that a repository is made only if that is said.
func TestCreateRepository(t *testing.T) {
	c := catalogue{at: location{dir: filepath.Join(t.TempDir(), "repository")}}
	if _, err := c.openDir(t.Context()); err == nil {
		t.Error("a missing directory was opened as a repository")
	}
	must(t, os.Mkdir(c.at.dir, 0o755))
	if _, err := c.openDir(t.Context()); err == nil {
		t.Error("an empty directory was opened as a repository")
	}
	c.create = true
	first, err := c.openDir(t.Context())
	must(t, err)
	c.create = false
	again, err := c.openDir(t.Context())
	must(t, err)
	if first.ID() != again.ID() {
		t.Errorf("id %s, and then %s: want one repository", first.ID(), again.ID())
	}
}

// TestWorkFails tells a failure from a mistake in the usage.
func TestWorkFails(t *testing.T) {
	code, _, stderr := try(t, "", "controller", "--endpoint=unix://"+filepath.Join(t.TempDir(), "csi.sock"), "--repository=dir:/nowhere/repository")
	if code != exitFailed || !strings.Contains(stderr, "holkas controller: repository: open store /nowhere/repository: ") {
		t.Errorf("exit code %d, errors %q; want %d and that the store cannot be opened", code, stderr, exitFailed)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if code := run(canceled, []string{"demo"}, nil, &out, &out); code != exitFailed || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("an interrupted demo: exit code %d, %q; want %d", code, out.String(), exitFailed)
	}
}
