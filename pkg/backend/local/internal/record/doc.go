// Package record reads and writes the small files that explain a pool.
//
// Each file is JSON, indented, with a newline at its end:
//
//	{
//	  "format":  "holkas local volume",     what is in it: one of the formats below
//	  "version": 1,                         of this format; each has its own numbering
//	  "crc32c":  "5d6e01f2",                Castagnoli, of the record's compact JSON, 8 hex digits
//	  "record":  { ... }
//	}
//
//	file                          format                    type
//	holkas-pool.json              holkas local pool         Pool
//	volumes/<id>/meta.json        holkas local volume       Volume
//	snapshots/<id>/meta.json      holkas local snapshot     Snapshot
//	frozen/<id>                   holkas local freeze       Frozen
//
// A reader refuses what it cannot understand: bytes that are no such JSON, a
// wrong format or checksum, and more than 64 KiB are Corrupt; a version above
// its own is Unsupported; an unknown field inside a record of a known version
// is Corrupt, since a version fixes its fields. A golden file for each format
// and version stays in testdata for ever.
package record
