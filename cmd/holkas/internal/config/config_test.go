package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

type disk struct {
	Name string `json:"name"`
	Size int    `json:"size,omitempty"`
}

// settings has one setting of each kind.
type settings struct {
	ID    string
	Level int
	Wait  time.Duration
	Dry   bool
	Disks []disk
}

func (o *settings) set(required string) *Set {
	s := &Set{}
	text := func(text string) (string, error) {
		if strings.Contains(text, " ") {
			return "", errors.New(strconv.Quote(text) + ": want one word")
		}
		return text, nil
	}
	AddOne(s, One[string]{Name: "node-id", Into: &o.ID, Parse: text, Required: required})
	AddOne(s, One[int]{Name: "level", Into: &o.Level, Default: "3", Parse: strconv.Atoi})
	AddOne(s, One[time.Duration]{Name: "wait", Into: &o.Wait, Default: "5m", Parse: time.ParseDuration})
	AddOne(s, One[bool]{Name: "dry", Into: &o.Dry, Parse: strconv.ParseBool})
	AddList(s, List[disk]{Name: "disk", Into: &o.Disks, Fields: true, Parse: func(text string) (disk, error) {
		name, err := text, error(nil)
		if strings.Contains(name, " ") {
			err = errors.New(strconv.Quote(text) + ": want one word")
		}
		return disk{Name: name}, err
	}})
	return s
}

// read reads settings from a command line (flags only), an environment and the
// text of a file.
func read(t *testing.T, required string, args []string, env map[string]string, file string) (settings, []string) {
	t.Helper()
	var o settings
	s := o.set(required)
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	s.Flags(flags)
	path := filepath.Join(t.TempDir(), "f.yaml")
	if file != "" {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--config=" + path}, args...)
	}
	flags.ParseErrorsAllowlist.UnknownFlags = true
	faults := Unknown(flags, args)
	if err := flags.Parse(args); err != nil {
		faults = append(faults, err)
	}
	err := s.Load(func(name string) string { return env[name] }, faults...)
	if err == nil {
		return o, nil
	}
	return o, strings.Split(strings.ReplaceAll(err.Error(), path, "f.yaml"), "\n")
}

func TestLoad(t *testing.T) {
	initial := settings{Level: 3, Wait: 5 * time.Minute}
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want settings
	}{
		{"defaults", nil, nil, "", initial},
		{"flags", []string{"--node-id=a", "--level", "4", "--wait=1s", "--dry", "--disk=x", "--disk=y"}, nil, "",
			settings{ID: "a", Level: 4, Wait: time.Second, Dry: true, Disks: []disk{{Name: "x"}, {Name: "y"}}}},
		{"environment", nil, map[string]string{"HOLKAS_NODE_ID": "a", "HOLKAS_LEVEL": "4", "HOLKAS_WAIT": "1s", "HOLKAS_DRY": "true", "HOLKAS_DISK": "x,y"}, "",
			settings{ID: "a", Level: 4, Wait: time.Second, Dry: true, Disks: []disk{{Name: "x"}, {Name: "y"}}}},
		{"file", nil, nil, "# ours\nnode-id: a\nlevel: 4\nwait: 1s\ndry: true\ndisk:\n- x\n- name: w\n  size: 5\n",
			settings{ID: "a", Level: 4, Wait: time.Second, Dry: true, Disks: []disk{{Name: "x"}, {Name: "w", Size: 5}}}},
		{"one item without a list", nil, nil, "disk: {name: w}", settings{Level: 3, Wait: 5 * time.Minute, Disks: []disk{{Name: "w"}}}},
		{"a number as text", nil, nil, "level: \"4\"\nnode-id: \"0123\"", settings{ID: "0123", Level: 4, Wait: 5 * time.Minute}},
		{"a file with a mark and comments", nil, nil, "# one\n---\nnode-id: a", settings{ID: "a", Level: 3, Wait: 5 * time.Minute}},
		{"a file with nothing in it", nil, nil, "# nothing\n", initial},
		{"a flag before the environment before the file", []string{"--node-id=flag"},
			map[string]string{"HOLKAS_NODE_ID": "env", "HOLKAS_LEVEL": "1"}, "node-id: file\nlevel: 2\nwait: 2s\n",
			settings{ID: "flag", Level: 1, Wait: 2 * time.Second}},
		{"a list replaces a list", []string{"--disk=x"}, map[string]string{"HOLKAS_DISK": "y"}, "disk: [z, z]",
			settings{Level: 3, Wait: 5 * time.Minute, Disks: []disk{{Name: "x"}}}},
		{"the last of a flag", []string{"--level=1", "--level=2"}, nil, "", settings{Level: 2, Wait: 5 * time.Minute}},
		{"an empty variable is none", nil, map[string]string{"HOLKAS_LEVEL": ""}, "level: 2", settings{Level: 2, Wait: 5 * time.Minute}},
		{"an empty flag is the default", []string{"--level="}, map[string]string{"HOLKAS_LEVEL": "1"}, "level: 2", initial},
		{"a flag switched off", []string{"--dry=false"}, nil, "dry: true", initial},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, faults := read(t, "", c.args, c.env, c.file)
			if faults != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, faults %q; want %+v", got, faults, c.want)
			}
		})
	}
}

func TestLoadFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want []string
	}{
		{"missing", nil, nil, "", []string{"--node-id: missing: want a name (also as HOLKAS_NODE_ID, or node-id in the file of --config)"}},
		{"emptied", []string{"--node-id="}, nil, "node-id: a", []string{"--node-id: missing: want a name (also as HOLKAS_NODE_ID, or node-id in the file of --config)"}},
		{"all at once", []string{"--node-id=a b", "--nonsense", "--level"}, map[string]string{"HOLKAS_LEVEL": "many", "HOLKAS_DISK": "a b,c d"},
			"wait: 5\ncolour: red\ndisk: [{name: 1, sise: 2}, e f]\n", []string{
				"--nonsense: no such flag",
				"flag needs an argument: --level",
				"f.yaml: colour: unknown: want one of node-id, level, wait, dry, disk",
				"f.yaml: disk: [0]: name: 1: want text (in quotes, if YAML takes it for a number)",
				"f.yaml: disk: [0]: sise: unknown: want one of name, size",
				`f.yaml: disk: [1]: "e f": want one word`,
				"f.yaml: wait: 5: YAML takes it for no text: put it in quotes",
				`HOLKAS_LEVEL: strconv.Atoi: parsing "many": invalid syntax`,
				`HOLKAS_DISK: "a b": want one word`,
				`HOLKAS_DISK: "c d": want one word`,
				`--node-id: "a b": want one word`,
			}},
		{"behind a good one", []string{"--node-id=a"}, map[string]string{"HOLKAS_NODE_ID": "b c"}, "node-id: d e",
			[]string{`f.yaml: node-id: "d e": want one word`, `HOLKAS_NODE_ID: "b c": want one word`}},
		{"a key twice", []string{"--node-id=a"}, nil, "level: 1\nlevel: 2\n",
			[]string{`f.yaml: yaml: unmarshal errors: line 2: key "level" already set in map: want one YAML object of settings, each once`}},
		{"no object", []string{"--node-id=a"}, nil, "- level\n", []string{`f.yaml: is no YAML object: want lines such as "node-id: node-1"`}},
		{"two documents", []string{"--node-id=a"}, nil, "level: 1\n---\nlevel: 2\n", []string{"f.yaml: holds more than one YAML document: want one"}},
		{"a key without a value", []string{"--node-id=a"}, nil, "level:\ndisk: [null, '']\n", []string{
			"f.yaml: disk: [0]: empty: want a value, or no such line",
			"f.yaml: disk: [1]: empty: want a value",
			"f.yaml: level: empty: want a value, or no such line",
		}},
		{"a list for one", []string{"--node-id=a"}, nil, "level: [1]\n", []string{"f.yaml: level: want a single value"}},
		{"a number for text", nil, nil, "node-id: 0123\n", []string{"f.yaml: node-id: 83: YAML takes it for no text: put it in quotes"}},
		{"config in the file", []string{"--node-id=a"}, nil, "config: b\n", []string{"f.yaml: config: unknown: want one of node-id, level, wait, dry, disk"}},
		{"no file", []string{"--node-id=a", "--config=/nowhere"}, nil, "", []string{"/nowhere: no such file or directory: want a YAML file that can be read"}},
		{"no file by variable", []string{"--node-id=a"}, map[string]string{"HOLKAS_CONFIG": "/nowhere"}, "", []string{"/nowhere: no such file or directory: want a YAML file that can be read"}},
		{"a large file", []string{"--node-id=a"}, nil, strings.Repeat("#\n", maxFileBytes/2) + "#", []string{"f.yaml: larger than 1048576 bytes: want a YAML file of settings"}},
		{"short flags", []string{"--node-id", "-1", "-x", "-yz=3", "--", "--no-flag"}, nil, "", []string{"-x: no such flag", "-yz: no such flag"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := read(t, "a name", c.args, c.env, c.file)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
			}
		})
	}
}

// TestLoadKeeps sees that a setting with a fault is left as it was, and that
// Check is asked all the same.
func TestLoadKeeps(t *testing.T) {
	var o settings
	s := o.set("")
	s.Check = func(faulty func(string) bool) []error {
		return []error{errors.New("checked " + strconv.Itoa(o.Level) + strconv.FormatBool(faulty("level")) + strconv.FormatBool(faulty("wait")))}
	}
	s.Flags(pflag.NewFlagSet("test", pflag.ContinueOnError))
	err := s.Load(func(name string) string { return map[string]string{"HOLKAS_LEVEL": "many"}[name] })
	if err == nil || !strings.HasSuffix(err.Error(), "\nchecked 3truefalse") {
		t.Errorf("got %v, want a fault of HOLKAS_LEVEL and Check's with the default", err)
	}
}

// FuzzFile reads any file: it never panics, and what it takes without a fault it
// takes again when its values are given as flags.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "node-id: a\n", "level: 4\nwait: 1s\ndry: true\ndisk:\n- x\n- {name: y, size: 5}\n", "disk: x", "level: 1\nlevel: 2", "---\na: b\n---\n",
		"disk: [[x]]", "disk: {name: {}}", "level: 1e3", "level: .inf", "node-id: !!binary aGk=", "&a node-id: *a", "node-id: ~", "? [a]\n: b", "\xff", "node-id: \"\\0\"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var o settings
		s := o.set("")
		s.Flags(pflag.NewFlagSet("test", pflag.ContinueOnError))
		keys, err := parseFile(body)
		if err != nil {
			return
		}
		l := loader{Set: s, given: map[string]bool{}, faulty: map[string]bool{}}
		for _, setting := range s.settings {
			if raw, found := keys[setting.name]; found {
				l.take(setting, setting.name, value{json: raw})
			}
		}
		if len(l.faults) > 0 {
			return
		}
		again := settings{}
		args := []string{"--node-id=" + o.ID, "--level=" + strconv.Itoa(o.Level), "--wait=" + o.Wait.String(), "--dry=" + strconv.FormatBool(o.Dry)}
		s = again.set("")
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		s.Flags(flags)
		if err := errors.Join(flags.Parse(args), s.Load(func(string) string { return "" })); err != nil {
			t.Fatalf("%q was read as %+v, but flags of that have a fault: %v", body, o, err)
		}
		again.Disks = o.Disks
		if !reflect.DeepEqual(again, o) {
			t.Errorf("%q was read as %+v, flags of that as %+v", body, o, again)
		}
	})
}
