package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Faults are all that is wrong with a command's settings.
type Faults []error

// Error is one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, err := range f {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads the settings after the flags were parsed: getenv is os.Getenv. It
// returns Faults, or nil. Those that the command line itself has come first.
func (s *Set) Load(getenv func(string) string, commandLine ...error) error {
	l := loader{Set: s, given: map[string]bool{}, faulty: map[string]bool{}, faults: commandLine}
	l.file(getenv)
	for _, o := range s.settings {
		if text := getenv(variable(o.name)); text != "" {
			texts := []string{text}
			if o.list {
				texts = strings.Split(text, ",")
			}
			l.take(o, variable(o.name), value{texts: texts})
		}
	}
	for _, o := range s.settings {
		if texts := s.texts[o.name]; len(texts) > 0 {
			l.take(o, "--"+o.name, value{texts: texts})
		}
	}
	for _, o := range s.settings {
		if o.required != "" && !l.given[o.name] && !l.faulty[o.name] {
			l.say("--%s: missing: want %s (also as %s, or %s in the file of --config)", o.name, o.required, variable(o.name), o.name)
		}
	}
	if s.Check != nil {
		l.faults = append(l.faults, s.Check(func(name string) bool { return l.faulty[name] })...)
	}
	if len(l.faults) == 0 {
		return nil
	}
	return Faults(l.faults)
}

// loader is one reading of the settings.
type loader struct {
	*Set
	given  map[string]bool // a value was read
	faulty map[string]bool
	faults []error
}

func (l *loader) say(format string, args ...any) {
	l.faults = append(l.faults, fmt.Errorf(format, args...))
}

// take reads what a source holds for a setting; where names it.
func (l *loader) take(o *setting, where string, v value) {
	apply, faults := o.read(v)
	for _, err := range faults {
		l.say("%s: %w", where, err)
	}
	if len(faults) > 0 {
		l.faulty[o.name] = true
		return
	}
	apply()
	l.given[o.name] = v.json != nil || slices.ContainsFunc(v.texts, func(text string) bool { return text != "" })
}

// file reads the file, if there is one.
func (l *loader) file(getenv func(string) string) {
	path := getenv(variable(configName))
	if texts := l.texts[configName]; len(texts) > 0 {
		path = texts[len(texts)-1]
	}
	if path == "" {
		return
	}
	keys, err := readFile(path)
	if err != nil {
		l.say("%s: %w", path, err)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		i := slices.IndexFunc(l.settings, func(o *setting) bool { return o.name == key })
		if i < 0 {
			l.say("%s: %s: unknown: want one of %s", path, key, strings.Join(l.names(), ", "))
			continue
		}
		l.take(l.settings[i], path+": "+key, value{json: keys[key]})
	}
}

func (l *loader) names() (names []string) {
	for _, o := range l.settings {
		names = append(names, o.name)
	}
	return names
}

// Unknown returns a fault for each flag among a command's arguments that it does
// not have, where pflag knows but the first.
func Unknown(flags *pflag.FlagSet, args []string) (faults []error) {
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		arg, isFlag := strings.CutPrefix(args[i], "-")
		if !isFlag || arg == "" {
			continue
		}
		name, long := strings.CutPrefix(arg, "-")
		name, _, hasValue := strings.Cut(name, "=")
		var flag *pflag.Flag
		if long {
			flag = flags.Lookup(name)
		} else if name != "" && name[0] < 0x80 {
			flag = flags.ShorthandLookup(name[:1])
			hasValue = hasValue || len(name) > 1
		}
		if flag == nil {
			faults = append(faults, fmt.Errorf("%s: no such flag", strings.SplitN(args[i], "=", 2)[0]))
		} else if !hasValue && flag.NoOptDefVal == "" {
			i++ // its value
		}
	}
	return faults
}
