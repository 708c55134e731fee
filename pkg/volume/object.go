package volume

import (
	"regexp"
	"strconv"
	"time"
)

// Durability says when a flush of a volume returns.
type Durability string

// The durabilities.
const (
	// JournalDurability: when the node's journal has it.
	JournalDurability Durability = "journal"
	// ObjectDurability: when the repository has it.
	ObjectDurability Durability = "object"
)

// OnNodeLoss says what becomes of a volume whose node is lost with a journal that
// is not wholly in the repository.
type OnNodeLoss string

// What can become of it.
const (
	// Wait: it opens on no other node.
	Wait OnNodeLoss = "wait"
	// Rollback: it opens on another node as it last was in the repository.
	Rollback OnNodeLoss = "rollback"
)

// Compression says how a volume's bytes are compressed in the repository.
type Compression string

// The compressions.
const (
	Zstd          Compression = "zstd" // where it pays
	NoCompression Compression = "none"
)

// Encryption says how a volume's bytes are encrypted in the repository.
type Encryption string

// The encryptions.
const (
	NoEncryption Encryption = "none"
	// AES256GCM encrypts under a key that is wrapped by that of
	// SecretEncryptionKey.
	AES256GCM Encryption = "aes-256-gcm"
)

// The keys of CSI's secrets. These spellings are an interface: never change one.
const (
	// SecretEncryptionKey is what an encrypted volume's key is wrapped with.
	SecretEncryptionKey = "encryptionKey"
	// SecretPreviousEncryptionKey is what it was wrapped with before: with it and
	// the new one it is wrapped anew.
	SecretPreviousEncryptionKey = "previousEncryptionKey"
)

// CacheFull as CacheBytes keeps the whole volume on the node's NVMe.
const CacheFull int64 = -1

// Bounds of a volume's parameters.
const (
	MinCacheBytes      int64 = 64 << 20
	MaxCacheBytes      int64 = MaximumObjectBytes
	DefaultUploadDelay       = 5 * time.Second
	MinUploadDelay           = 100 * time.Millisecond
	MaxUploadDelay           = 10 * time.Minute
)

// ValidCacheBytes reports whether a volume's cache can have a size: that of the
// shared one (0), CacheFull, or MinCacheBytes to MaxCacheBytes.
func ValidCacheBytes(n int64) bool {
	return n == 0 || n == CacheFull || n >= MinCacheBytes && n <= MaxCacheBytes
}

// cacheUnits are the suffixes of Kubernetes' quantities that make sense here.
var (
	cacheUnits    = map[string]int64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
	cacheQuantity = regexp.MustCompile(`^([0-9]{1,18})(|k|M|G|T|Ki|Mi|Gi|Ti)$`)
)

func formatCache(bytes int64) string {
	switch bytes {
	case 0:
		return ""
	case CacheFull:
		return "full"
	}
	return strconv.FormatInt(bytes, 10)
}

// parseCache reads a cache's size.
func parseCache(s string) (bytes int64, ok bool) {
	if s == "full" {
		return CacheFull, true
	}
	parts := cacheQuantity.FindStringSubmatch(s)
	if parts == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	unit := cacheUnits[parts[2]]
	if err != nil || n > MaxCacheBytes/unit {
		return 0, false
	}
	return n * unit, n*unit >= MinCacheBytes
}
