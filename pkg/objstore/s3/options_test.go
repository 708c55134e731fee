package s3

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]Options{
		"s3://bucket":               {Bucket: "bucket"},
		"s3://bucket/":              {Bucket: "bucket"},
		"s3://bucket/a/b-c":         {Bucket: "bucket", Prefix: "a/b-c"},
		"s3://bucket/a/?region=x-1": {Bucket: "bucket", Prefix: "a", Region: "x-1"},
		"s3://bucket?endpoint=https://host:1234&addressing=path&ca-file=/etc/ca.pem&sign-payload=true&credentials=folder:/etc/keys": {
			Bucket: "bucket", Endpoint: "https://host:1234", Addressing: Path, CAFile: "/etc/ca.pem", SignPayload: true,
			Credentials: Credentials{Folder: "/etc/keys"},
		},
		"s3://bucket?endpoint=http%3A%2F%2Fhost%3A1&allow-http=true&credentials=environment": {
			Bucket: "bucket", Endpoint: "http://host:1", AllowHTTP: true, Credentials: Credentials{Environment: true},
		},
		"s3://bucket?credentials=file:/etc/keys&profile=p": {Bucket: "bucket", Credentials: Credentials{File: "/etc/keys", Profile: "p"}},
		"s3://bucket?credentials=role&addressing=host":     {Bucket: "bucket", Addressing: VirtualHost, Credentials: Credentials{Role: true}},
	} {
		if got, err := ParseURL(raw); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", raw, got, err, want)
		}
	}
}

// TestParseURLRefuses has each fault told by its name, all of them at once, and
// nothing of what may be secret.
func TestParseURLRefuses(t *testing.T) {
	for raw, words := range map[string][]string{
		"":                                            {"want a URL such as s3://bucket"},
		"dir:/path":                                   {"want a URL such as s3://bucket"},
		"https://bucket":                              {"want a URL such as s3://bucket"},
		"s3:bucket":                                   {"//"},
		"s3://":                                       {"bucket"},
		"s3://Bucket":                                 {"bucket"},
		"s3://a":                                      {"bucket"},
		"s3://bucket:80":                              {"bucket"},
		"s3://bu..cket":                               {"bucket"},
		"s3://bucket//a":                              {"prefix"},
		"s3://bucket/a b":                             {"prefix"},
		"s3://bucket/../a":                            {"prefix"},
		"s3://bucket#x":                               {"fragment"},
		"s3://id:SECRET@bucket":                       {"holds credentials"},
		"s3://SECRET@bucket":                          {"holds credentials"},
		"s3://id:SEC/RET@bucket":                      {"want a URL"},
		"s3://bucket?%SECRET":                         {"parameters"},
		"s3://bucket?secret=SECRET":                   {"parameter secret", "want one of endpoint"},
		"s3://bucket?SECRET":                          {"repository parameter:", "want one of endpoint"},
		"s3://bucket?region=a&region=b":               {"parameter region", "once"},
		"s3://bucket?region=":                         {"parameter region"},
		"s3://bucket?region=A_B":                      {"region"},
		"s3://bucket?allow-http=SECRET":               {"parameter allow-http", "true or false"},
		"s3://bucket?addressing=dns":                  {"addressing"},
		"s3://bucket?ca-file=x":                       {"CA file"},
		"s3://bucket?profile=x":                       {"profile"},
		"s3://bucket?credentials=SECRET":              {"parameter credentials"},
		"s3://bucket?credentials=role:/x":             {"parameter credentials"},
		"s3://bucket?credentials=file":                {"parameter credentials"},
		"s3://bucket?credentials=folder:x":            {"credentials folder"},
		"s3://bucket?endpoint=http://host":            {"without TLS"},
		"s3://bucket?endpoint=https://id:SECRET@host": {"endpoint: it holds credentials"},
		"s3://bucket?endpoint=https://host/path":      {"endpoint"},
		"s3://bucket?endpoint=ftp://host":             {"endpoint"},
		"s3://bucket?endpoint=:SECRET":                {"endpoint"},
		"s3://bucket?endpoint=https://10.0.0.1&addressing=host":                {"endpoint", "an address has no names"},
		"s3://BUCKET/a//b?region=A&addressing=x&ca-file=y&nothing=1&profile=z": {"bucket", "prefix", "region", "addressing", "CA file", "parameter nothing", "profile"},
	} {
		_, err := ParseURL(raw)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", raw, err)
			continue
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: got %q, want %q in it", raw, err, word)
			}
		}
		if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the error repeats what may be secret: %v", raw, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, raw := range []string{"s3://bucket/a?endpoint=https://host:1&region=r", "s3://id:pw@bucket", "s3://bucket?credentials=file:/x", "s3:%zz", "s3://b%2fcket"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		o, err := ParseURL(raw)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: got kind %s, want Invalid", raw, fault.KindOf(err))
			}
			return
		}
		if o.Validate() != nil || o.Credentials.SecretAccessKey != "" {
			t.Errorf("%q: options that are not right: %+v", raw, o)
		}
		if base := o.base(); base.Hostname() == "" {
			t.Errorf("%q: no host in %s", raw, base)
		}
	})
}

func FuzzErrorReply(f *testing.F) {
	f.Add(404, []byte(`<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>m</Message><Region>eu</Region></Error>`))
	f.Add(500, []byte(`<html>`))
	f.Add(412, []byte(`<Error><Code>PreconditionFailed</Code></Error>`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		p := parseProblem(body)
		said := p.describe(reply{status: status}, credentialsOf("secret", "token"))
		if strings.Contains(said, "secret") || strings.Contains(said, "token") && !strings.Contains("[secret]", said) || len(said) > maxMessage+8 {
			t.Errorf("%q", said)
		}
		v := judge(status, p.Code)
		if (v.kind == fault.NotFound) != (p.Code == "NoSuchKey") || (v.kind == fault.Exists) != (p.Code == "PreconditionFailed") {
			t.Errorf("%d %s: kind %s", status, p.Code, v.kind)
		}
	})
}

func FuzzListing(f *testing.F) {
	f.Add([]byte(`<ListBucketResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType><Contents><Key>a%2Fb</Key><Size>3</Size></Contents><CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseListing(body)
		if err != nil {
			return
		}
		checkPage(t, got)
	})
}

func TestBase(t *testing.T) {
	for want, o := range map[string]Options{
		"https://bucket.s3.us-east-1.amazonaws.com":   {Bucket: "bucket", Region: "us-east-1"},
		"https://bucket.s3.cn-x.amazonaws.com.cn":     {Bucket: "bucket", Region: "cn-x"},
		"https://s3.r.amazonaws.com/buc.ket":          {Bucket: "buc.ket", Region: "r"},
		"https://s3.r.amazonaws.com/bucket":           {Bucket: "bucket", Region: "r", Addressing: Path},
		"https://host:1/bucket":                       {Bucket: "bucket", Endpoint: "https://host:1"},
		"https://bucket.host:1":                       {Bucket: "bucket", Endpoint: "https://host:1/", Addressing: VirtualHost},
		"https://bucket.s3.dualstack.r.amazonaws.com": {Bucket: "bucket", Endpoint: "https://s3.dualstack.r.amazonaws.com"},
		"https://s3.amazonaws.com.example.org/bucket": {Bucket: "bucket", Endpoint: "https://s3.amazonaws.com.example.org"},
	} {
		if got := o.base().String(); got != want {
			t.Errorf("%+v: got %s, want %s", o, got, want)
		}
	}
}

func TestCredentialSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	folder := t.TempDir()
	write(t, file, "[default]\naws_access_key_id = file-id\naws_secret_access_key = file-secret\n[other]\naws_access_key_id = other-id\naws_secret_access_key = other-secret\n")
	write(t, filepath.Join(folder, "AWS_ACCESS_KEY_ID"), "folder-id\n")
	write(t, filepath.Join(folder, "AWS_SECRET_ACCESS_KEY"), "folder-secret\n")
	t.Setenv("AWS_ACCESS_KEY_ID", "environment-id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "environment-secret")
	for want, c := range map[string]Credentials{
		"key-id":         {AccessKeyID: "key-id", SecretAccessKey: "s"},
		"file-id":        {File: file},
		"other-id":       {File: file, Profile: "other"},
		"folder-id":      {Folder: folder},
		"environment-id": {Environment: true},
	} {
		s := open(t, Options{Bucket: "bucket", Credentials: c})
		if keys, err := s.keys(t.Context()); err != nil || keys.AccessKeyID != want {
			t.Errorf("%+v: got %q, %v; want %s", c, keys.AccessKeyID, err, want)
		}
	}
	s := open(t, Options{Bucket: "bucket"}) // none named: the environment first
	if keys, err := s.keys(t.Context()); err != nil || keys.AccessKeyID != "environment-id" {
		t.Errorf("by default: got %q, %v; want the environment's", keys.AccessKeyID, err)
	}
}

// TestCredentialsMissing has sources that hold nothing, or what is no credentials:
// no error quotes them.
func TestCredentialsMissing(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	write(t, bad, "SECRET without any form\n[SECRET\n")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
	for name, c := range map[string]Credentials{
		"no file":     {File: bad + "-absent"},
		"a bad file":  {File: bad},
		"no folder":   {Folder: bad + "-absent"},
		"environment": {Environment: true},
	} {
		s := open(t, Options{Bucket: "bucket", Credentials: c})
		err := s.Put(t.Context(), "a", nil)
		if outcome(err) != "refused" || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: got %v, want Transient, refused, without what the source holds", name, err)
		}
	}
}

func TestOptionsTogether(t *testing.T) {
	for want, c := range map[string]Credentials{
		"2 sources":                    {Environment: true, Role: true},
		"both an access key id and":    {AccessKeyID: "a"},
		"credentials file \"x\": want": {File: "x"},
	} {
		if _, err := New(Options{Bucket: "bucket", Credentials: c}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want Invalid with %q", err, want)
		}
	}
	for _, file := range []string{"/does/not/exist", "/dev/null"} {
		if _, err := New(Options{Bucket: "bucket", CAFile: file}); !fault.Is(err, fault.Invalid) {
			t.Errorf("CA file %s: got %v, want Invalid", file, err)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
