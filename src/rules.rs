//! The rules of the design that no record gets lost by, by name, so that a test can take out each of them
//! and must then see a promise broken. In a normal build each holds, and nothing is left of this.
//!
//! With the feature `rules`, which is for tests only, `without` takes one out for as long as a function
//! runs, in the thread that calls it. docs/durability-rules.md says what is seen of each.

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Rule] = &[$(Rule::$name,)+];

            /// What it says.
            pub fn text(self) -> &'static str {
                match self {
                    $(Rule::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

rules! {
    // Syncs.
    /// What is announced was synced before.
    AckAfterSync,
    /// A segment whose sync failed is not synced again, but left.
    FailedSyncFinal,
    /// The ring's bytes are released when their records are durable, not before.
    RingReleasedAfterSync,
    /// After a failure the ring gives again what is not durable.
    RingRewound,
    /// A page bears the mark that was announced before it was written.
    PageMarkAfterSync,
    /// A checkpoint bears the mark that was announced before it was written.
    CheckpointMarkAfterSync,

    // Pages.
    /// A version of the partly filled page goes to another place than the durable one.
    TailNotInPlace,
    /// The versions of the partly filled page rotate through three places, not two.
    TailSlotsThree,
    /// A page names its store.
    PageNamesStore,
    /// A page names its segment's base.
    PageNamesBase,
    /// A page names its place in the file.
    PageNamesSlot,
    /// Pages with a life below the segment's are a former life's.
    PageLife,
    /// A page's header is under a checksum.
    PageChecksum,
    /// A record is under a checksum.
    RecordChecksum,
    /// A record's checksum covers the life.
    SealLife,
    /// A record's checksum covers the offset.
    SealOffset,
    /// A segment ends where the next one begins.
    SegmentEndsAtNext,

    // Roll.
    /// A segment is durable in full before the header of the next one is written.
    SyncBeforeRoll,
    /// A segment's header is durable before its first page is written.
    HeaderSynced,
    /// A segment's name is durable before its first page is written.
    NameSynced,
    /// Each writing of a segment has a life of its own.
    LifePerSegment,
    /// What held nothing durable is replaced by a segment of the same base.
    SameBase,
    /// A durable checkpoint has the new head before a segment is used again.
    HeadBeforeRecycling,
    /// A removed name is used again only after a sync of the directory.
    RemovalSynced,
    /// A file whose sync failed is not used again.
    SuspectNotReused,
    /// A new segment's file is written with zeros before it is used.
    SpareZeroed,

    // Checkpoints.
    /// A checkpoint counts when it was synced.
    CheckpointSynced,
    /// Checkpoints rotate through three slots, not two.
    CheckpointSlotsThree,
    /// A slot whose write failed is the next one to be written.
    FailedSlotAgain,
    /// A slot holds two halves that say the same.
    CheckpointHalves,
    /// The newest checkpoint that verifies counts.
    CheckpointNewest,
    /// Half a checkpoint is none: it is under a checksum.
    CheckpointChecksum,
    /// A checkpoint says of a cursor what was published, and no more.
    CheckpointCursors,
    /// The slowest cursor keeps what it has not read.
    SlowestCursorKeeps,
    /// The syncer writes a checkpoint before it announces more than the last one allows.
    ReachKept,

    // Open.
    /// An open syncs the directory first.
    OpenSyncsDirectory,
    /// An open syncs all files before it reads them.
    OpenSyncsFiles,
    /// An open reads the medium, not what a failed sync has left in the cache.
    OpenDropsCaches,
    /// An open repairs the copies of a header that do not verify.
    HeaderRepaired,
    /// A repair writes only the copy that does not verify.
    HeaderRepairKeeps,
    /// Of two copies of a header the one with the greater life counts.
    HeaderNewest,
    /// Of two segments with one base the later one counts.
    ReplacedGoes,
    /// The life of an open is above the checkpoint's.
    LifeAboveCheckpoint,
    /// The life of an open is above those in all headers of segments.
    LifeAboveHeaders,
    /// The life of an open is above those in all pages.
    LifeAbovePages,
    /// An open skips the lives that may have been used since the last checkpoint.
    LivesSkipped,
    /// An open raises the life.
    LifePerOpen,
    /// The checkpoint's mark is evidence.
    EvidenceOfCheckpoint,
    /// Segments' bases are evidence.
    EvidenceOfBases,
    /// The marks of pages are evidence.
    EvidenceOfPages,
    /// The log ends behind the last record that is found, not at the evidence.
    EndBehindRecords,
    /// The log does not end below the first offset of any page.
    EndBehindPages,
    /// Writing goes on behind the last page that verifies.
    ResumeBehindPages,
    /// An open that cannot sync a segment, or read it, does not write to it.
    ResumeInGoodOnly,
    /// An open skips offsets that may have been handed out.
    OffsetsSkipped,
    /// It skips two rings of them, not one.
    OffsetsSkippedTwice,
    /// It skips what the last checkpoint allowed to announce.
    OffsetsSkippedByReach,
    /// It skips by the ring of the run that crashed, not by its own.
    OffsetsSkippedByOldRing,
    /// It skips from where that run was opened, at least.
    OffsetsSkippedFromOpen,
    /// Skipped offsets are in the ledger.
    SkippedInLedger,
    /// Holes that an open finds are in the ledger.
    HolesInLedger,
    /// An open writes a durable checkpoint before anything is handed out.
    CheckpointAtOpen,
    /// That checkpoint says that the store is in use.
    CleanFlagCleared,
    /// Where a slot does not verify no clean close is believed.
    CleanNeedsAllSlots,
    /// A clean close names the segment in which writing goes on.
    CleanNamesSegment,
    /// A clean close comes when the ring is empty.
    CleanNeedsEmptyRing,

    // Space and losses.
    /// The quota holds.
    QuotaKept,
    /// What is dropped is in the ledger.
    DropsInLedger,
    /// A reader looks at the head again before it calls anything damage.
    HeadReadAgain,
    /// Readers stay below the durable mark.
    ReadBelowDurable,

    // Cursors.
    /// What stands in the ledger is not counted again as dropped.
    GapCountedOnce,
    /// What was accepted before it was dropped is not counted as a gap.
    DoneIsNoGap,
    /// What a former run did out of order is not read again.
    DoneNotReadAgain,
    /// A cursor stays below what is open.
    CursorBelowOpen,
    /// A cursor passes a record when it was accepted, not when it was sent.
    CursorAfterAnswer,
    /// What is not answered for is sent again.
    SilenceIsNoAnswer,
    /// A cursor passes a rejected record when its letter is durable.
    CursorAfterLetter,
    /// A letter is answered for when it was synced.
    LetterSynced,
    /// What failed is sent before anything later where the stream's order is kept.
    OrderOfStream,
    /// No record goes while another one of its key is with the sink.
    OrderOfKey,
}

/// Whether a rule holds: always.
#[cfg(not(feature = "rules"))]
#[inline(always)]
pub(crate) const fn holds(_rule: Rule) -> bool {
    true
}

#[cfg(not(feature = "rules"))]
const _: () = {
    let mut at = 0;
    while at < Rule::ALL.len() {
        assert!(holds(Rule::ALL[at]), "a constant");
        at += 1;
    }
};

/// Whether a rule holds: unless a test has taken it out.
#[cfg(feature = "rules")]
pub(crate) fn holds(rule: Rule) -> bool {
    broken::OUT.get() != Some(rule)
}

#[cfg(feature = "rules")]
pub use broken::{intact, without};

#[cfg(feature = "rules")]
mod broken {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        pub(super) static OUT: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// Puts the rule back, also when what ran without it panicked.
    struct Back(Option<Rule>);

    impl Drop for Back {
        fn drop(&mut self) {
            OUT.set(self.0);
        }
    }

    /// Runs `f` in this thread without that rule.
    pub fn without<R>(rule: Rule, f: impl FnOnce() -> R) -> R {
        let _back = Back(OUT.replace(Some(rule)));
        f()
    }

    /// Runs `f` in this thread with all rules: what a test itself reads and writes goes by them.
    pub fn intact<R>(f: impl FnOnce() -> R) -> R {
        let _back = Back(OUT.take());
        f()
    }
}
