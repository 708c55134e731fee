// Package fuse gives a volume's disk a kernel device without a module of the
// kernel's own for it: a FUSE filesystem with one file, and a loop device on that
// file. It works on every kernel from 5.4 on.
//
// # The device outlives the engine
//
// A device that is mounted and busy sees a pause, not an error, while the engine
// that serves it is killed and started again, or replaced by another version:
//
//   - A small process, the keeper, holds for each device the descriptors without
//     which it would be gone: of /dev/fuse, of the mounted folder, and of a piece
//     of memory, the ledger. It does nothing else. One keeper serves a folder
//     (Options.Dir); it is started by the engine, in a session of its own, and
//     ends with the last device. Signals but SIGKILL do not end it.
//     Where all that an engine starts is killed with it, as in a container, a
//     keeper is to be started beside it (Run with "stay"): the engine uses it.
//   - The engine answers the kernel itself, on the same descriptor. It lets the
//     kernel put each request into a slot of the ledger, carries it out, answers
//     it, and empties the slot.
//   - The next engine gets the descriptors from the keeper. Requests that the
//     kernel still has are delivered to it as to any reader; those that had been
//     taken are in the ledger. It carries them out, and goes on.
//
// Carrying out a request again is harmless as long as the kernel waits for the
// answer: whoever issued it has not issued another that depends on it. Once it is
// answered, a later request may have overwritten what it wrote. So the ledger has
// the result of a write, discard or zeroing before the kernel has it; what has a
// result is answered again, which the kernel refuses if it has had the answer,
// and never carried out again. Reads and flushes are repeated. A flush that is
// repeated covers what was answered before it, whichever engine did: Disk says
// that a write that returned survives the process, and Flush is asked of the disk
// that was opened since.
//
// A folder has one server at a time (a lock on it). The system frees the lock and
// the sockets of a process when the last of its threads has left the kernel, so
// nothing of the earlier one's is under way when the next begins.
//
// A keeper that dies while its engine lives is replaced, since the engine has all
// descriptors as well. If both die, the device is dead: what is asked of it fails.
// The next server of the folder frees it, at once or when its last user lets go,
// and gives the volume another.
//
// # The ledger
//
// An anonymous file in memory, in the machine's byte order; of slots only the
// pages that were used exist. Version 1:
//
//	   0  8  magic "holkasfd"
//	   8  4  version
//	  12  4  slots, n: 72
//	  16  4  payload, bytes, p: 128 KiB
//	  20  4  flags: 1 read-only, 2 discard
//	  24  8  size of the device, bytes
//	  32 96  name of the file, then zeros
//	4096     n slots of 512 bytes:
//	           0   4  state: 1, the request was carried out
//	           4   4  what came of it: an errno, or 0
//	          64  80  the request: its header and first 40 bytes; the first 4
//	                  are its length, 0 in an empty slot
//	         256 256  room for the reply
//	         then, from the next multiple of 4096 on, n payloads of p bytes: what
//	         follows the first 80 bytes of a request, as the data of a write; and
//	         what was read
//
// Another magic or version is refused (Unsupported): the volume cannot be
// attached or detached by this version of the program, and the device waits.
//
// # What must not be in the engine's process
//
// A process that waits in the kernel for a request that itself would have to
// answer cannot be killed once the request was taken, and would keep its lock and
// sockets for ever. So this package never opens, stats, resizes or closes the
// file or the device in the engine's process, but in steps: processes of their
// own (Run) that are started for it. A step that an engine's death leaves waiting
// goes on when the next one answers; steps of one device come after each other,
// by a lock on its record. Whoever holds an engine must keep to that too: nothing
// in its process may wait for its own devices (freezing a filesystem on one,
// reading one).
//
// For the same reason nobody else should come to wait by accident: the filesystem
// is mounted nowhere, so that no path leads to it and no mount table shows it, and
// the kernel may keep the file's attributes, so that losetup and df need no engine.
// Making a loop device flushes its file, with the kernel's lock on a free number
// held: if an engine dies in that moment, all who want a loop device wait for the
// next engine, which ends the half-made device when it begins.
//
// # Short of memory
//
// What the engine needs to write is in memory before it is needed: slots are
// touched before they are used, and locked where that is allowed. The threads of
// the process are marked as those that carry out I/O (PR_SET_IO_FLUSHER) where
// that is allowed, and where the program has no C code; so the kernel does not
// make them wait for I/O that they would have to do. The keeper asks not to be
// killed for memory. A device takes 128 KiB for each request that was ever under
// way at once, and at most 9 MiB.
//
// # Files in the folder
//
//	lock      is locked by the server
//	keeper    the keeper's socket
//	keeper.lock  is locked by the keeper
//	v-...     a volume's record: the name of its file, that is of the loop device's
//	          backing file as the kernel shows it; there before the device is, and
//	          removed after it
//
// # Why so
//
// Three ways were weighed. The kernel can be asked to send again what it had sent
// (FUSE_NOTIFY_RESEND), but only from Linux 6.9 on, which many nodes do not have;
// the ledger does the same on all. A process that outlives the engine can answer
// the kernel and pass requests on to whichever engine there is; every request then
// goes through two more processes' wake-ups. Measured, requests a second through
// the loop device, all on files in memory, so that only the front-end's own cost
// counts, on two processors with other work:
//
// # FIGURES
//
// On a disk, most of that is hidden by the disk: see BenchmarkRatio.
package fuse
