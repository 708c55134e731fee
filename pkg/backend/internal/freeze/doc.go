// Package freeze holds the writers of a mounted filesystem for a moment, so that
// what is cut meanwhile is a clean filesystem.
//
// A freeze (FIFREEZE) outlives the process that asked for it. So three things
// stand behind the one who freezes: a watchdog in the process that thaws after a
// limit whatever happens; a guard, a child process that thaws at once when the
// process was killed, and a moment after the limit when it hangs; and a record,
// which the caller makes durable before the freeze and removes after it, so that
// the next start thaws what is listed (Leftover).
//
// What was cut counts only if Thaw then reports that the freeze held until it.
package freeze
