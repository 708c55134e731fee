// Package objstore is a small contract over object stores.
//
// A store keeps immutable-by-habit objects under slash-separated keys. The one
// conditional primitive is Create: put if absent, with exactly one winner
// however many try. Everything else in the project that needs exclusion is built
// from it. The contract is stated by a conformance suite (pkg/objstore/
// objstoretest) that every implementation runs.
//
// Features wrap: retries, faults and metrics are stores around stores. An
// implementation does not retry, since only a caller can tell "it exists because
// my own earlier try succeeded" from "somebody else won". Probe tries whether a
// store keeps to the contract where stores are known not to.
package objstore
