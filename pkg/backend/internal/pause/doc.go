// Package pause keeps the pauses of several volumes at once that one process
// holds: what Pause, CreateSnapshot and Resume of the backends' contract have in
// common.
//
// A pause lives in memory. It ends by Resume, by its limit, or with its process;
// what was cut under one that did not end by Resume is void. Those that are over
// are remembered for a while, so that late duplicates of their calls get the same
// answer and hold nothing.
package pause
