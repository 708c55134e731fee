package s3

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Credentials say where the keys come from that requests are signed with. At most
// one of the sources is set; with none, it is the environment, and if that holds
// no keys, the machine's or the pod's role.
type Credentials struct {
	// AccessKeyID, SecretAccessKey and, for temporary ones, SessionToken are the
	// keys themselves.
	AccessKeyID, SecretAccessKey, SessionToken string
	// File is a credentials file in Amazon's format, and Profile what counts in
	// it; empty means "default".
	File, Profile string
	// Folder has files named like Amazon's environment variables
	// (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if need be,
	// AWS_SESSION_TOKEN): a mounted Secret.
	Folder string
	// Environment takes those variables of this process.
	Environment bool
	// Role takes what the platform gives to the machine or the pod: by a web
	// identity token, the container's endpoint, or the machine's metadata.
	Role bool
}

func (c Credentials) validate() error {
	sources := 0
	for _, isSet := range []bool{c.AccessKeyID+c.SecretAccessKey+c.SessionToken != "", c.File != "", c.Folder != "", c.Environment, c.Role} {
		if isSet {
			sources++
		}
	}
	var all []error
	fail := func(format string, args ...any) { all = append(all, fault.New(fault.Invalid, format, args...)) }
	if sources > 1 {
		fail("credentials: %d sources: want one of keys, file, folder, environment and role", sources)
	}
	if (c.AccessKeyID == "") != (c.SecretAccessKey == "") || c.SessionToken != "" && c.AccessKeyID == "" {
		fail("credentials: want both an access key id and a secret access key")
	}
	if c.File != "" && !filepath.IsAbs(c.File) {
		fail("credentials file %.80q: want an absolute path", c.File)
	}
	if c.Folder != "" && !filepath.IsAbs(c.Folder) {
		fail("credentials folder %.80q: want an absolute path", c.Folder)
	}
	if c.Profile != "" && c.File == "" {
		fail("credentials profile %.80q: want it with a file", c.Profile)
	}
	return errors.Join(all...)
}

// provider returns where the keys come from. They are kept until they end, or the
// store refuses them.
func (c Credentials) provider() *credentials.Credentials {
	environment, role := &credentials.EnvAWS{}, &credentials.IAM{}
	switch {
	case c.AccessKeyID != "":
		return credentials.NewStaticV4(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
	case c.File != "":
		return credentials.NewFileAWSCredentials(c.File, c.Profile)
	case c.Folder != "":
		return credentials.New(&folder{path: c.Folder})
	case c.Environment:
		return credentials.New(environment)
	case c.Role:
		return credentials.New(role)
	}
	return credentials.NewChainCredentials([]credentials.Provider{environment, role})
}

// keys returns the keys of now. Its errors hold nothing of what a source contains.
func (s *Store) keys(ctx context.Context) (credentials.Value, error) {
	keys, err := s.credentials.GetWithContext(&credentials.CredContext{Client: s.roleClient, Context: ctx})
	if err == nil && (keys.AccessKeyID == "" || keys.SecretAccessKey == "") {
		err = errors.New("none found")
	}
	if err == nil {
		return keys, nil
	}
	if ctx.Err() != nil {
		return keys, ctx.Err()
	}
	// What parsed a file may quote it, and a URL may hold a token.
	var onPath *os.PathError
	var atURL *url.Error
	switch {
	case errors.As(err, &onPath):
		return keys, fault.New(fault.Transient, "%w: credentials: %w", objstore.ErrRefused, onPath)
	case errors.As(err, &atURL):
		return keys, fault.New(fault.Transient, "credentials from the role: %w", atURL.Err)
	case s.options.Credentials.File != "":
		return keys, fault.New(fault.Transient, "%w: credentials file %s: want aws_access_key_id and aws_secret_access_key in its profile", objstore.ErrRefused, s.options.Credentials.File)
	}
	return keys, fault.New(fault.Transient, "%w: credentials: none found: want keys, a file, a folder, the environment's or a role", objstore.ErrRefused)
}

// renewed drops keys that the store refused, and reports whether there are others.
func (s *Store) renewed(ctx context.Context, refused credentials.Value) bool {
	s.credentials.Expire()
	keys, err := s.keys(ctx)
	return err == nil && (keys.AccessKeyID != refused.AccessKeyID || keys.SecretAccessKey != refused.SecretAccessKey || keys.SessionToken != refused.SessionToken)
}

// folder reads keys from files, again once a minute: whoever mounts a Secret
// replaces them there.
type folder struct {
	path string
	read time.Time
}

const folderAge = time.Minute

func (f *folder) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	var err error
	read := func(name string, optional bool) string {
		content, readErr := os.ReadFile(filepath.Join(f.path, name))
		if readErr != nil && (!optional || !errors.Is(readErr, os.ErrNotExist)) {
			err = errors.Join(err, readErr)
		}
		return strings.TrimSpace(string(content))
	}
	value := credentials.Value{
		AccessKeyID:     read("AWS_ACCESS_KEY_ID", false),
		SecretAccessKey: read("AWS_SECRET_ACCESS_KEY", false),
		SessionToken:    read("AWS_SESSION_TOKEN", true),
		SignerType:      credentials.SignatureV4,
	}
	f.read = time.Now()
	return value, err
}

func (f *folder) Retrieve() (credentials.Value, error) { return f.RetrieveWithCredContext(nil) }

func (f *folder) IsExpired() bool { return time.Since(f.read) > folderAge }

// roleClient asks the platform, which is near and not reached through proxies.
func roleClient() *http.Client {
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
}
