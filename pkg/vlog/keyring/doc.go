// Package keyring keeps a volume's data keys wrapped by the user's key, so that
// they can lie in the repository.
//
// # The user's key
//
// 32 random bytes, as 64 hexadecimal digits or in base64: no passphrase, since
// whoever holds the repository can try passphrases for as long as they like. It
// comes from the Secret of each call and is never stored. Two things are derived
// from it with HKDF-SHA256 (no salt, the info in quotes):
//
//	fingerprint  16 bytes, "holkas user key id 1": names the key, and tells nothing
//	             of it
//	wrapping key 32 bytes, "holkas wrap 1"
//
// # The ring
//
// A volume has one data key of its own, random, with which it writes, and those
// of the volumes that it was cloned from, with which it reads what they wrote.
// Each is stored as
//
//	AES-256-GCM(wrapping key, nonce 12 random bytes, data key 32 bytes,
//	            additional data: "holkas data key 1" | volume id | key id 16)
//
// nonce first, ciphertext and tag behind: 60 bytes. So a wrapped key counts in the
// record of its own volume only. The wrapping key is used for as many data keys as
// there are volumes with one user key: far below what random nonces bear.
//
// Another user key opens nothing: its fingerprint differs, and the error says
// which one is wanted. To rotate is to open the ring with the old key and to wrap
// the same data keys with the new one; no data is written anew.
package keyring
