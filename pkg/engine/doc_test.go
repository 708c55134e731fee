package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// matrix is what may go wrong with an object volume, and which tests see to it: a
// folder and the names in it, or why there is none. TestHistories and
// TestCrashAtEveryStep of this package are meant where a row has "histories".
var matrix = []struct{ row, fault, tests string }{
	{"J1", "crash at each step or sector of an append to the journal", "journal: TestCrashAtEveryStep TestHistories; .: TestCrashAtEveryStep TestHistories"},
	{"J2", "writes of one group reordered, or partly there", "journal: TestCrashAtEveryStep TestHistories"},
	{"J3", "a record of an earlier lap exactly at the tail", "journal: TestStaleLapIsNotTaken TestForgedRecordIsNotTaken"},
	{"J4", "a bit flips in what was acknowledged", "journal: TestDamageIsNotTruncated TestSuperblockVouches TestDamageWhileOpen"},
	{"J5", "a sync fails once, and then succeeds", "journal: TestFailedSync TestFailedSyncOfRecycle; .: TestHistories"},
	{"J6", "the journal or its disk is full", "journal: TestOutage TestNoRoom; .: TestFullJournal TestFullJournalAfterDeath TestHistories"},
	{"J7", "one or both superblocks torn", "journal: TestSuperblocks"},
	{"J8", "the journal is gone, or another's", "journal: TestAnotherJournal; .: TestLostJournal"},
	{"J9", "the journal wraps or is resized in a crash", "journal: TestCrashAtEveryStep TestHistories TestSuperblocks"},
	{"J10", "the peer of a mirrored journal dies or comes back", "none: class peer is planned"},
	{"O1", "a PUT times out and was applied", "../objstore/retry: TestCreateSettles TestUnknownStaysUnknown; ../vlog/epoch: TestLostReplies; .: TestHistories"},
	{"O2", "a PUT times out and was not applied", "../objstore/retry: TestOutage TestSilence; .: TestHistories"},
	{"O3", "bursts of 409, 500, 503", "../objstore/retry: TestWaits; .: TestHistories"},
	{"O4", "a segment arrives, the one before it does not, crash", "../vlog/epoch: TestHistories; .: TestGap TestHistories"},
	{"O5", "a body that is truncated or wrong", "image: TestDamage; ../objstore/retry: TestCorrupt; .: TestHistories"},
	{"O6", "a store that ignores the condition of a create", "../objstore: TestProbeRefuses"},
	{"O7", "a store that lets concurrent creates all win", "../objstore: TestProbeRefuses TestProbesAtOnce"},
	{"O8", "listings that are late", "none: a store without them is refused (../objstore: TestProbeRefuses)"},
	{"O9", "an object is deleted by somebody", ".: TestLostObjects"},
	{"O10", "the store is away", ".: TestFullJournal TestCleaningRidesOutAnOutage TestHistories; image: TestAway"},
	{"O11", "credentials expire or change", "none here: they are the store's, see ../objstore/s3"},
	{"O12", "a clock that is wrong or jumps", "../vlog/epoch: TestModel; none: nothing depends on a clock but leases, which measure with one machine's, and grace"},
	{"F1", "two nodes open at once", "../vlog/epoch: TestModel TestHistories; .: TestHistories"},
	{"F2", "a writer sleeps, its successor works and collects, it wakes", "../vlog/epoch: TestModel TestFenced; ../vlog/garbage: TestFencedWriterDeletesNothing; .: TestHistories TestFencedWhileFull TestLease"},
	{"F3", "crash between claim, close marker and checkpoint", ".: TestHistories TestCrashAtEveryStep; ../vlog/epoch: TestHistories"},
	{"F4", "a late PUT of an epoch that is closed", "../vlog/epoch: TestHistories; ../vlog/garbage: TestHistories; .: TestHistories"},
	{"F5", "a fenced writer's checkpoint or deletion comes late", "../vlog/garbage: TestLateCheckpoints TestModel; .: TestHistories TestSnapshotBesideSuccessor TestTakenOverWhileMoving"},
	{"F6", "the API server is away", "none: nothing here asks it"},
	{"F7", "detached by force while the old node lives", ".: TestHistories TestAnotherNode TestFencedWhileFull"},
	{"G1", "crash at each step of a collection", ".: TestCrashAtEveryStep TestHistories; ../vlog/garbage: TestHistories"},
	{"G2", "a block is written while it is moved", ".: TestCleaningKeepsContent TestMovesYield TestHistories; image: TestLateMove"},
	{"G3", "collection beside snapshots, clones, replicas", "../vlog/garbage: TestModel TestHistories; ../vlog/claim: TestModel TestHistories; .: TestSnapshotsPin TestHistories"},
	{"G4", "collection beside readers of what goes", ".: TestHistories; image: TestReadersBeside"},
	{"G5", "live counts drift", "../vlog/table: TestModel TestShortLastDirectory; image: TestModel; .: TestHistories"},
	{"S1", "a snapshot under load", ".: TestHistories TestCutUnderLoad"},
	{"S2", "crash in a snapshot, which is asked for again", ".: TestCrashAtEveryStep TestHistories"},
	{"S3", "a parent goes before its clones", ".: TestHistories TestCloneLeavesItsBase"},
	{"S4", "many snapshots, long chains of clones", ".: TestManySnapshots"},
	{"B1", "discards and zeros of all sizes and alignments", ".: TestHistories TestDiscardOf2TiB; overlay: TestModel; ../vlog/table: TestModel"},
	{"B2", "writes of sectors", ".: TestHistories TestSectors"},
	{"B3", "flushes beside writes, over several connections", ".: TestHistories; ../blockdev/nbd: TestFlushCoversAllConnections"},
	{"B4", "reads while data go from journal to object to another object", ".: TestHistories TestCleaningKeepsContent; overlay: TestReaders"},
	{"M1", "a page of the table is lost or damaged", ".: TestLostObjects; image: TestDamage"},
	{"M2", "a checkpoint that names what was collected", "../vlog/garbage: TestModel TestHistories; .: TestHistories"},
	{"M3", "a format of a later version", "journal: TestVersionsAndFlags TestNewerRecord; ../vlog/segment: TestLaterFields; cache: TestVersions"},
	{"M4", "memory at its limit", ".: TestLargeTable TestHundredVolumes; ../vlog/table: TestMemory; overlay: TestMemory; journal: TestMemory"},
	{"C1", "a nonce that is used twice", "../vlog/frame: TestNoncesAreUnique TestSealerRefuses"},
	{"C2", "another key, frames exchanged or changed", "../vlog/frame: TestMisplacedIsSeen TestDamageWithItsChecksumIsSeen; ../vlog/segment: TestExchangedFrameIsSeen; image: TestOtherKey"},
	{"C3", "rotation of a user's key, and its end", "../vlog/keyring: TestRotate TestWrongKeys"},
	{"C4", "frames that swell", "../vlog/frame: TestBomb"},
}

// TestMatrix sees that the tests of the matrix are there.
func TestMatrix(t *testing.T) {
	for _, m := range matrix {
		if strings.HasPrefix(m.tests, "none") {
			continue
		}
		for part := range strings.SplitSeq(m.tests, "; ") {
			folder, names, ok := strings.Cut(part, ": ")
			if folder == "none" {
				continue
			}
			files, _ := filepath.Glob(filepath.Join(folder, "*_test.go"))
			var all strings.Builder
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(text)
			}
			for _, name := range strings.Fields(names) {
				if !ok || !strings.Contains(all.String(), "func "+name+"(t *testing.T)") {
					t.Errorf("%s (%s): there is no %s in %s", m.row, m.fault, name, folder)
				}
			}
		}
	}
}
