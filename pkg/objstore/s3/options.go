package s3

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Addressing says where a request names the bucket.
type Addressing string

// The ways of addressing. Automatic is the host for Amazon's own endpoints,
// unless the bucket's name has a dot, which its certificates do not cover, and
// the path for all others.
const (
	Automatic   Addressing = ""
	VirtualHost Addressing = "host"
	Path        Addressing = "path"
)

// Options of New.
type Options struct {
	// Endpoint is the server's URL, without a path. Empty means Amazon's endpoint
	// of the Region.
	Endpoint string
	// Region is what requests are signed for; empty means us-east-1, which is
	// right for most servers that are not Amazon's.
	Region string
	// Bucket must exist.
	Bucket string
	// Prefix, if not empty, comes before every key, with a slash between. It
	// follows the rules for keys.
	Prefix string
	// Addressing says where a request names the bucket.
	Addressing Addressing
	// AllowHTTP permits an Endpoint without TLS: everything but the secret key
	// itself is then open to whoever is on the way.
	AllowHTTP bool
	// CAFile, if not empty, is a PEM file with the certificates that the server's
	// is verified against, instead of the system's.
	CAFile string
	// SignPayload has the signature cover the bodies over TLS too, for servers
	// that insist. It costs a SHA-256 of every byte.
	SignPayload bool
	// Credentials are what requests are signed with.
	Credentials Credentials
}

const defaultRegion = "us-east-1"

var (
	validBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	validRegion = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

// Validate reports all faults of the options, as Invalid.
func (o Options) Validate() error {
	var all []error
	fail := func(format string, args ...any) { all = append(all, fault.New(fault.Invalid, format, args...)) }
	if !validBucket.MatchString(o.Bucket) || strings.Contains(o.Bucket, "..") {
		fail("bucket %.80q: want 3 to 63 lower-case letters, digits, '-' and '.'", o.Bucket)
	}
	if o.Prefix != "" && objstore.ValidateKey(o.Prefix) != nil {
		fail("prefix %.80q: want what a key of the store may be, without slashes around it", o.Prefix)
	}
	if o.Region != "" && !validRegion.MatchString(o.Region) {
		fail("region %.80q: want lower-case letters, digits and '-'", o.Region)
	}
	if err := o.validateEndpoint(); err != nil {
		all = append(all, err)
	}
	switch o.Addressing {
	case Automatic, VirtualHost, Path:
	default:
		fail("addressing %.80q: want %q, %q or none", o.Addressing, VirtualHost, Path)
	}
	if o.CAFile != "" && !filepath.IsAbs(o.CAFile) {
		fail("CA file %.80q: want an absolute path", o.CAFile)
	}
	return errors.Join(append(all, o.Credentials.validate())...)
}

// validateEndpoint never quotes the endpoint, which may hold a password.
func (o Options) validateEndpoint() error {
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "endpoint: want a URL such as https://host:port")
	case u.User != nil:
		return fault.New(fault.Invalid, "endpoint: it holds credentials: want them in the Credentials")
	case u.Scheme == "http" && !o.AllowHTTP:
		return fault.New(fault.Invalid, "endpoint %.80q: it is without TLS: want https, or http allowed explicitly", u.Host)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", strings.Trim(u.Path, "/") != "", u.RawQuery != "", u.Fragment != "":
		return fault.New(fault.Invalid, "endpoint %.80q: want a URL such as https://host:port, without a path", u.Host)
	case o.Addressing == VirtualHost && net.ParseIP(u.Hostname()) != nil:
		return fault.New(fault.Invalid, "endpoint %.80q: an address has no names below it: want addressing %q, or a name", u.Host, Path)
	}
	return nil
}

// base returns the URL of the bucket: a key goes behind its path and a slash.
func (o Options) base() *url.URL {
	u := &url.URL{Scheme: "https", Host: "s3." + o.Region + ".amazonaws.com"}
	if strings.HasPrefix(o.Region, "cn-") {
		u.Host += ".cn"
	}
	if o.Endpoint != "" {
		endpoint, err := url.Parse(o.Endpoint)
		if err != nil {
			panic(err) // Validate parsed it
		}
		u.Scheme, u.Host = endpoint.Scheme, endpoint.Host
	}
	if o.byHost(u.Hostname()) {
		u.Host = o.Bucket + "." + u.Host
	} else {
		u.Path = "/" + o.Bucket
	}
	return u
}

func (o Options) byHost(host string) bool {
	if o.Addressing != Automatic {
		return o.Addressing == VirtualHost
	}
	isAmazon := strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
	return isAmazon && !strings.Contains(o.Bucket, ".")
}
