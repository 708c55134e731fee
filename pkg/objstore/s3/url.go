package s3

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Scheme is what the URL of a repository in a bucket begins with.
const Scheme = "s3"

// settings are the parameters of a URL, in the order in which they are told.
var settings = []struct {
	name, values string
	set          func(o *Options, value string) bool
}{
	{"endpoint", "https://host:port", func(o *Options, v string) bool { o.Endpoint = v; return v != "" }},
	{"region", "a region's name", func(o *Options, v string) bool { o.Region = v; return v != "" }},
	{"addressing", "host or path", func(o *Options, v string) bool { o.Addressing = Addressing(v); return v != "" }},
	{"allow-http", "true or false", func(o *Options, v string) bool { return yes(v, &o.AllowHTTP) }},
	{"ca-file", "/path/of/certificates.pem", func(o *Options, v string) bool { o.CAFile = v; return v != "" }},
	{"sign-payload", "true or false", func(o *Options, v string) bool { return yes(v, &o.SignPayload) }},
	{"credentials", "environment, role, file:/path or folder:/path", setCredentials},
	{"profile", "a profile of the credentials file", func(o *Options, v string) bool { o.Credentials.Profile = v; return v != "" }},
}

func yes(value string, to *bool) bool {
	*to = value == "true"
	return value == "true" || value == "false"
}

func setCredentials(o *Options, value string) bool {
	source, path, _ := strings.Cut(value, ":")
	switch source {
	case "environment":
		o.Credentials.Environment = true
	case "role":
		o.Credentials.Role = true
	case "file":
		o.Credentials.File = path
	case "folder":
		o.Credentials.Folder = path
	default:
		return false
	}
	return (path != "") == (source == "file" || source == "folder")
}

var tellable = regexp.MustCompile(`^[a-z][a-z-]{0,19}$`)

// ParseURL reads what a repository's URL says:
//
//	s3://bucket/prefix?endpoint=https://host:port&region=...&addressing=path&
//	  allow-http=true&ca-file=/path&sign-payload=true&credentials=folder:/path
//
// All but the bucket may be left out. Credentials themselves are refused in it.
// All faults are reported at once, as Invalid; since a URL may hold what it must
// not, no error repeats it whole, nor a parameter's value.
func ParseURL(raw string) (Options, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != Scheme {
		return Options{}, fault.New(fault.Invalid, "repository: want a URL such as s3://bucket/prefix?endpoint=https://host:port&region=name")
	}
	if u.User != nil {
		return Options{}, fault.New(fault.Invalid, "repository: the URL holds credentials: want them by credentials=environment, role, file:/path or folder:/path")
	}
	if u.Fragment != "" || u.Opaque != "" || u.RawFragment != "" {
		return Options{}, fault.New(fault.Invalid, "repository: want a URL without a fragment, with // before the bucket")
	}
	o := Options{Bucket: u.Host, Prefix: strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, fault.New(fault.Invalid, "repository: want parameters such as ?region=name&addressing=path")
	}
	return o, errors.Join(o.take(query), o.Validate())
}

// take sets what the parameters say.
func (o *Options) take(query url.Values) error {
	var all []error
	var names []string
	for _, s := range settings {
		names = append(names, s.name)
		if values := query[s.name]; len(values) > 1 || len(values) == 1 && !s.set(o, values[0]) {
			all = append(all, fault.New(fault.Invalid, "repository parameter %s: want it once, with %s", s.name, s.values))
		}
	}
	for name := range query {
		if slices.Contains(names, name) {
			continue
		}
		told := ""
		if tellable.MatchString(name) {
			told = " " + name
		}
		all = append(all, fault.New(fault.Invalid, "repository parameter%s: want one of %s", told, strings.Join(names, ", ")))
	}
	return errors.Join(all...)
}
