package s3

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// maxErrorBytes bounds what is read of an error's body, and maxMessage what is
// told of its message.
const (
	maxErrorBytes = 64 << 10
	maxMessage    = 300
)

// problem is an error as S3 servers put it.
type problem struct {
	XMLName  xml.Name `xml:"Error"`
	Code     string
	Message  string
	Region   string
	Endpoint string
}

var validCode = regexp.MustCompile(`^[A-Za-z0-9.]{1,64}$`)

// parseProblem reads an error's body. What is no such error has no code.
func parseProblem(body []byte) problem {
	var p problem
	if err := xml.Unmarshal(body, &p); err != nil || !validCode.MatchString(p.Code) {
		return problem{}
	}
	return p
}

// verdict is what an error of the server means.
type verdict struct {
	kind  fault.Kind
	cause error // ErrSlowDown, ErrRefused or nil
	// right says what would be right.
	right string
}

var (
	again    = verdict{kind: fault.Transient}
	slowDown = verdict{kind: fault.Transient, cause: objstore.ErrSlowDown}
)

func refusal(right string) verdict {
	return verdict{kind: fault.Transient, cause: objstore.ErrRefused, right: right}
}

// verdicts are the codes that say more than the status, or else than it.
var verdicts = map[string]verdict{
	"NoSuchKey":          {kind: fault.NotFound},
	"InvalidRange":       {kind: fault.OutOfRange},
	"PreconditionFailed": {kind: fault.Exists},

	"EntityTooLarge":  {kind: fault.Invalid, right: "want a smaller object"},
	"KeyTooLongError": {kind: fault.Invalid, right: "want a shorter prefix"},

	// A key that is also a prefix of others; but servers on a filesystem say so too
	// when folders come and go meanwhile, and our keys are never such.
	"ObjectParentIsFile":            again,
	"XMinioParentIsObject":          again,
	"ExistingObjectIsDirectory":     again,
	"XMinioObjectExistsAsDirectory": again,

	"SlowDown":                     slowDown,
	"SlowDownRead":                 slowDown,
	"SlowDownWrite":                slowDown,
	"Busy":                         slowDown,
	"ServerBusy":                   slowDown,
	"BandwidthLimitExceeded":       slowDown,
	"RequestLimitExceeded":         slowDown,
	"RequestThrottled":             slowDown,
	"RequestThrottledException":    slowDown,
	"Throttling":                   slowDown,
	"ThrottlingException":          slowDown,
	"ThrottledException":           slowDown,
	"TooManyRequests":              slowDown,
	"TooManyRequestsException":     slowDown,
	"ProvisionedThroughputReached": slowDown,

	// Damaged or cut off on the way, or lost a race: nothing was stored.
	"BadDigest":                      again,
	"InvalidDigest":                  again,
	"IncompleteBody":                 again,
	"RequestTimeout":                 again,
	"XAmzContentSHA256Mismatch":      again,
	"XAmzContentChecksumMismatch":    again,
	"ConditionalRequestConflict":     again,
	"OperationAborted":               again,
	"InternalError":                  again,
	"XMinioServerNotInitialized":     again,
	"TemporaryRedirect":              refusal("want the bucket's own endpoint and region"),
	"PermanentRedirect":              refusal("want the bucket's own endpoint and region"),
	"AuthorizationHeaderMalformed":   refusal("want the bucket's own region"),
	"IllegalLocationConstraint":      refusal("want the bucket's own region"),
	"NoSuchBucket":                   refusal("want a bucket that exists"),
	"InvalidBucketName":              refusal("want a bucket that exists"),
	"InvalidObjectState":             refusal("it was archived: want no such lifecycle rule on the bucket"),
	"AccessDenied":                   refusal("want a policy that lets these credentials get, put, delete and list in the bucket"),
	"AllAccessDisabled":              refusal("want a bucket that its owner has not disabled"),
	"AccountProblem":                 refusal("want an account in order"),
	"NotSignedUp":                    refusal("want an account in order"),
	"QuotaExceeded":                  refusal("want a higher quota"),
	"XMinioAdminBucketQuotaExceeded": refusal("want a higher quota"),
	"XMinioStorageFull":              refusal("want free space in the store"),
	"RequestTimeTooSkewed":           refusal("want this machine's clock right"),
	"XAdminUserNotFound":             refusal("want an access key id that the store knows"),
	"InvalidAccessKeyId":             refusal("want an access key id that the store knows"),
	"SignatureDoesNotMatch":          refusal("want the secret key that belongs to the access key id"),
	"ExpiredToken":                   refusal("want credentials that have not ended"),
	"TokenRefreshRequired":           refusal("want credentials that have not ended"),
	"InvalidToken":                   refusal("want the session token that belongs to the access key id"),
	"InvalidSecurity":                refusal("want credentials that the store takes"),
}

// judge says what a status and a code mean. What a server does not say in S3's
// own words is not taken for an answer about an object: a proxy's 404 is no
// absent object, and its 412 no winner.
func judge(status int, code string) verdict {
	if v, ok := verdicts[code]; ok {
		return v
	}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return slowDown
	case status == http.StatusNotImplemented, status == http.StatusMethodNotAllowed, code == "NotImplemented":
		return verdict{kind: fault.Unsupported, right: "want a server that has it"}
	case status == http.StatusInsufficientStorage:
		return refusal("want free space in the store")
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusConflict:
		return again
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return verdicts["AccessDenied"]
	case status/100 == 3:
		return verdicts["PermanentRedirect"]
	}
	return refusal("want an S3 server at the endpoint that knows such requests")
}

// fits reports whether a kind is an answer to a request. What is not is some
// confusion on the way, and may pass.
func (r request) fits(kind fault.Kind) bool {
	switch kind {
	case fault.NotFound:
		return r.key != "" && (r.method == http.MethodGet || r.method == http.MethodDelete)
	case fault.OutOfRange:
		return r.header["Range"] != ""
	case fault.Exists:
		return r.header["If-None-Match"] != ""
	}
	return true
}

// refused types a reply that is not one of success.
func (s *Store) refused(ctx context.Context, r request, re reply, keys credentials.Value) error {
	p := parseProblem(re.body)
	v := judge(re.status, p.Code)
	if !r.fits(v.kind) {
		v = again
	}
	if re.status == http.StatusUnauthorized || re.status == http.StatusForbidden || p.Code == "ExpiredToken" || p.Code == "InvalidToken" {
		if s.renewed(ctx, keys) {
			v = verdict{kind: fault.Transient, right: "the credentials are new ones now"}
		}
	}
	return v.error(p.describe(re, keys))
}

// error makes the error of a verdict about something said.
func (v verdict) error(said string) error {
	if v.right != "" {
		said += ": " + v.right
	}
	if v.cause != nil {
		return fault.New(v.kind, "%w: %s", v.cause, said)
	}
	return fault.New(v.kind, "%s", said)
}

// describe tells what a server said, without what the keys must keep secret.
func (p problem) describe(re reply, keys credentials.Value) string {
	said := http.StatusText(re.status)
	if p.Code != "" {
		said = p.Code
		if p.Message != "" {
			said += " (" + p.Message + ")"
		}
	}
	for _, region := range []string{p.Region, re.header.Get("X-Amz-Bucket-Region")} {
		if validRegion.MatchString(region) {
			said += ", region " + region
			break
		}
	}
	if re.status != 0 {
		said = fmt.Sprintf("status %d: %s", re.status, said)
	}
	return printable(said, keys.SecretAccessKey, keys.SessionToken)
}

// printable leaves out secrets, and what a terminal or a log might act upon.
func printable(said string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			said = strings.ReplaceAll(said, secret, "[secret]")
		}
	}
	said = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, said)
	if len(said) > maxMessage {
		said = strings.ToValidUTF8(said[:maxMessage], "") + "..."
	}
	return said
}
