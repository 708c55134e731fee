// Package disk is the engine's local files: the seam at which tests put a
// simulated disk (package simdisk) under the journal and the cache.
//
// A File is read and written in whole blocks of Align bytes, from memory that
// Buffer returned or that is aligned as well, so that it can bypass the page
// cache. What was written is visible to every reader at once, the next process
// after this one's death included; it survives the loss of power only after
// Sync. Writes between two syncs reach the medium in any order, in part, and cut
// anywhere at a multiple of 512 bytes.
//
// A Sync that failed leaves it open which writes are durable, and one that
// succeeds afterwards says nothing about the writes before: the kernel forgets
// what it could not write. A caller must give the file up.
package disk
