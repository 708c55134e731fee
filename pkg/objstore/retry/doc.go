// Package retry is a store around a store that tries again what is Transient.
//
// Every try has a deadline of its own, so that one lost packet does not cost the
// whole call; the call has one over all tries, after which it is Transient with
// the last cause. Between tries it waits a random part of a bound that doubles
// (full jitter), eight times as long when the store asked to slow down. A context
// that ends gives its own kind. What the store refuses (objstore.ErrRefused) is
// not tried again, since it would be refused again. A read that is Corrupt is
// tried twice more: bytes can be damaged on the way.
//
// # What an unknown outcome means
//
// A try that was Transient may have taken effect, or may yet. Put and Delete are
// simply sent again. Create is not that simple: it may be refused because of its
// own earlier try. The rule is
//
//	Exists after a try of unknown outcome is success if and only if the stored
//	bytes equal ours.
//
// It holds for callers whose bodies are unique (each holds a nonce), which all
// bodies must be whose creation decides something:
//
//   - Two calls for a key are never both told that they won, while the object
//     stays. A call is told so only when a try of its own succeeded, or when the
//     object has its bytes, and then only a try of its own can have made it. The
//     store lets one try make it.
//   - A call is told that it lost only if the object is another's. Either no try
//     of it was of unknown outcome, and the one that was refused had no effect;
//     or the bytes were compared and differ.
//   - Whatever cannot be settled so, since time runs out, or since the object is
//     gone when it is looked at, is never Exists: it is tried again, and in the
//     end Transient, Canceled or Deadline, which say that the outcome is unknown.
//
// After a try of unknown outcome no error other than a settled Exists is final:
// even what was refused afterwards is told as Transient.
//
// A try that got no reply may take effect after its call returned. For Create
// that does no harm as long as what was created is not deleted meanwhile: the late
// try is refused. A late Put puts old bytes back, and a late Delete removes what
// was made anew; so what needs order creates keys, and never uses one again.
package retry
