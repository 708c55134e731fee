// Package s3 is an object store in a bucket of a server that speaks Amazon's S3.
//
// # What is sent
//
//	Get       GET, with the stored checksum asked for; GetRange with a Range
//	Put       PUT with the body's CRC-32C, which the server verifies
//	Create    the same with If-None-Match: *
//	Delete    DELETE, or for several keys POST ?delete, unless the server has none
//	List      GET ?list-type=2, each page begun behind the last entry of the one
//	          before by its name: no page depends on what a server remembers
//
// Requests are signed (version 4). Over TLS a body is not part of the signature,
// since SHA-256 costs more than all else together and TLS and the checksum
// protect it; without TLS, which must be allowed explicitly, it is.
//
// Credentials and signatures are minio-go's; the requests are made here, because
// its client has no way to list one page within a context, waits before it
// returns an error that it would retry, and hides causes behind texts of its own.
//
// # What is believed
//
// Only what a server says in S3's words is an answer about an object: NotFound is
// a 404 with the code NoSuchKey, and Exists a 412 with PreconditionFailed. An
// absent bucket, a proxy's page or a captive portal is Transient. A success
// counts only with the ETag that belongs to it. A body must have its announced
// length, a range must be the one that was asked for, and a whole object that
// comes with its CRC-32C must match it, or else is Corrupt: asking again tells
// whether it is damaged in the store or was on the way.
//
// Errors that will not pass by themselves (credentials, policies, regions,
// clocks, certificates) are Transient with objstore.ErrRefused: nothing was
// changed, and the message says what would be right. When credentials are refused
// they are read again; where others are found, the error invites another try.
// Requests to slow down are Transient with objstore.ErrSlowDown.
//
// No error holds a secret: what a server says is cleared of them, what a
// credentials file contains is never quoted, and a URL with credentials in it is
// refused without being repeated.
//
// # What this package does not do
//
// It does not retry: package retry does, and knows what an unknown outcome means.
// It does not notice a key that is also a prefix of others: servers that cannot
// have both say so with codes by which they also tell of races between requests.
// Go's HTTP client sends a PUT, POST or DELETE a second time only if nothing of it
// was written. It does not verify ranges beyond their length: records carry their
// own checksums. It never copies, and never uploads in parts, since an object is
// a few MiB. A write that got no reply may take effect late; so whoever needs
// order creates keys and does not put them.
package s3
