package csi

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/holkas-io/holkas/pkg/fault"
)

// The specification's general size limits, in bytes: of a string, and of a map
// or of all mount_flags.
const (
	maxStringBytes = 128
	maxMapBytes    = 4096
)

// checkSizes holds a request to the specification's size limits, as Invalid. A
// value may be a secret, so only its length is told.
func checkSizes(request any) error {
	m, ok := request.(proto.Message)
	if !ok {
		return nil
	}
	return checkMessage(m.ProtoReflect(), "")
}

func checkMessage(m protoreflect.Message, prefix string) error {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); m.Has(f) {
			if err := checkField(f, m.Get(f), prefix+string(f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkField(f protoreflect.FieldDescriptor, v protoreflect.Value, name string) error {
	switch {
	case f.IsMap():
		sum := 0
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			sum += len(k.String()) + len(v.String())
			return true
		})
		return limit(name, sum, maxMapBytes)
	case hasOwnLimit(string(f.Name())):
		return nil
	case f.IsList() && f.Kind() == protoreflect.StringKind:
		sum := 0
		for i := range v.List().Len() {
			sum += len(v.List().Get(i).String())
		}
		return limit(name, sum, maxMapBytes)
	case f.IsList() && f.Kind() == protoreflect.MessageKind:
		for i := range v.List().Len() {
			if err := checkMessage(v.List().Get(i).Message(), fmt.Sprintf("%s[%d].", name, i)); err != nil {
				return err
			}
		}
	case f.Kind() == protoreflect.MessageKind:
		return checkMessage(v.Message(), name+".")
	case f.Kind() == protoreflect.StringKind:
		return limit(name, len(v.String()), maxStringBytes)
	}
	return nil
}

// hasOwnLimit reports whether a handler says itself how long a field may be: a
// path may be as long as the system allows, and an id or a token that is too
// long is one that does not exist.
func hasOwnLimit(field string) bool {
	for _, suffix := range []string{"_id", "_ids", "_path", "_token"} {
		if strings.HasSuffix(field, suffix) {
			return true
		}
	}
	return false
}

func limit(name string, bytes, most int) error {
	if bytes > most {
		return fault.New(fault.Invalid, "%s: it has %d bytes: want at most %d", name, bytes, most)
	}
	return nil
}
