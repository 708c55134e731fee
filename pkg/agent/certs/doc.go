// Package certs has the naming rule of the internal API's certificates, and
// makes such certificates where nobody else does: a certificate authority for
// one site, and from it those of its controllers, operators and nodes.
//
// # Names
//
// A name is a URI among a certificate's subject alternative names. It is compared
// byte by byte, and a certificate may have several.
//
//	holkas://agent/controller
//	holkas://agent/operator
//	holkas://agent/node/<node id>
//
// # Files
//
//	ca.crt            the authorities that are believed, the newest first; goes
//	                  to every machine of the site
//	ca.key            the newest one's key; stays where it was made
//	controller.crt, controller.key, operator.crt, operator.key
//	node-<node id>.crt, node-<node id>.key
//
// All are PEM; keys are ECDSA P-256 in PKCS #8 with mode 0600. A file is replaced
// whole. Between a new key and its certificate a reader finds two that do not
// fit, and goes on with what it had.
//
// A certificate is good for DefaultValidity, never longer than its authority,
// which is good for DefaultAuthorityValidity; both begin five minutes early, for
// clocks that are behind. A controller's or operator's can only call, a node's
// only answer.
//
// # Rotation
//
// Certificates: issue them again, and put the files in the place of the old ones.
// An authority: Rotate puts a new one into ca.crt before the old; give that to
// every machine; issue all certificates again; when all are in their places,
// remove the old authority from ca.crt. At no moment does a process restart or a
// call fail.
package certs
