package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Set is the settings of one command, in the order in which its help lists them.
type Set struct {
	// Check looks at the settings together. It is called when all of them were
	// read, with those that are faulty as they were before.
	Check func(faulty func(name string) bool) []error

	settings []*setting
	texts    map[string][]string // given by flag
}

// One is a setting with one value.
type One[T any] struct {
	Name    string // of the flag: lower case, words joined by '-'
	Usage   string
	Into    *T
	Default string // in words; parsed as if it were given; empty: what Into holds
	Parse   func(text string) (T, error)
	// Required makes its absence a fault; the text says what is wanted.
	Required string
}

// List is a setting with any number of values.
type List[T any] struct {
	Name     string
	Usage    string
	Into     *[]T
	Parse    func(text string) (T, error)
	Required string
	// Fields allows an item in the file to be an object with T's JSON fields.
	Fields bool
}

// setting is a One or a List without its type.
type setting struct {
	name, usage, initial, required string

	list bool
	bare string // what the flag means without a value; empty: it must have one
	// read reads the value of one source. Nothing is set before apply is called.
	read func(v value) (apply func(), faults []error)
}

// value is what a source holds for a setting: texts, or JSON from the file.
type value struct {
	texts []string
	json  json.RawMessage
}

// AddOne adds a setting with one value.
func AddOne[T any](s *Set, o One[T]) {
	before := *o.Into
	if o.Default != "" {
		parsed, err := o.Parse(o.Default)
		if err != nil {
			panic(fmt.Sprintf("default of --%s: %v", o.Name, err))
		}
		before = parsed
	}
	*o.Into = before
	bare := ""
	if _, isBool := any(before).(bool); isBool {
		bare = "true"
	}
	s.settings = append(s.settings, &setting{
		name: o.Name, usage: o.Usage, initial: o.Default, required: o.Required, bare: bare,
		read: func(v value) (func(), []error) {
			texts := v.texts
			if v.json != nil {
				text, err := scalar[T](v.json)
				if err != nil {
					return nil, []error{err}
				}
				texts = []string{text}
			}
			text := texts[len(texts)-1]
			if text == "" {
				return func() { *o.Into = before }, nil
			}
			parsed, err := o.Parse(text)
			if err != nil {
				return nil, []error{err}
			}
			return func() { *o.Into = parsed }, nil
		},
	})
}

// AddList adds a setting with any number of values.
func AddList[T any](s *Set, l List[T]) {
	s.settings = append(s.settings, &setting{
		name: l.Name, usage: l.Usage, required: l.Required, list: true,
		read: func(v value) (func(), []error) {
			var items []T
			var faults []error
			add := func(item T, err error) {
				items = append(items, item)
				if err != nil {
					faults = append(faults, err)
				}
			}
			for _, text := range v.texts {
				if text != "" {
					add(l.Parse(text))
				}
			}
			var list []json.RawMessage
			if v.json != nil && json.Unmarshal(v.json, &list) != nil {
				list = []json.RawMessage{v.json} // one item without the brackets
			}
			for i, raw := range list {
				item, errs := l.item(raw)
				for _, err := range errs {
					faults = append(faults, fmt.Errorf("[%d]: %w", i, err))
				}
				items = append(items, item)
			}
			if len(faults) > 0 {
				return nil, faults
			}
			return func() { *l.Into = items }, nil
		},
	})
}

func (l List[T]) item(raw json.RawMessage) (item T, faults []error) {
	if raw[0] == '{' && l.Fields {
		return object[T](raw)
	}
	text, err := scalar[string](raw)
	if err == nil && text == "" {
		err = errors.New("empty: want a value")
	}
	if err == nil {
		item, err = l.Parse(text)
	}
	if err != nil {
		faults = append(faults, err)
	}
	return item, faults
}

// variable is a setting's name in the environment.
func variable(name string) string {
	return "HOLKAS_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Flags adds a flag for every setting, and --config.
func (s *Set) Flags(flags *pflag.FlagSet) {
	s.texts = map[string][]string{}
	flags.SortFlags = false
	for _, o := range s.settings {
		shorthand := ""
		if len(o.name) == 1 {
			shorthand = o.name
		}
		flag := flags.VarPF(&collector{s.texts, o}, o.name, shorthand, o.usage+" ["+variable(o.name)+"]")
		flag.DefValue, flag.NoOptDefVal = o.initial, o.bare
	}
	flags.VarPF(&collector{s.texts, &setting{name: configName}}, configName, "",
		"a YAML `file` of settings under the names of the flags ["+variable(configName)+"]")
}

const configName = "config"

// collector is a flag that takes what it is given; reading comes later, so that
// every fault is found.
type collector struct {
	texts map[string][]string
	of    *setting
}

// Set keeps a text.
func (c *collector) Set(text string) error {
	c.texts[c.of.name] = append(c.texts[c.of.name], text)
	return nil
}

// String is for pflag, which prints DefValue.
func (c *collector) String() string { return "" }

// Type is what the help calls the value.
func (c *collector) Type() string {
	switch {
	case c.of.bare != "":
		return "bool"
	case c.of.list:
		return "list"
	}
	return "value"
}
