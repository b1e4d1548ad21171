//! What a sink was given and what it lost, run by run.

use std::collections::BTreeSet;

use forebay::counters::{Place, SinkStats};

/// What a sink was given and what it lost, over all runs.
#[derive(Default)]
pub struct Books {
    pub accepted: BTreeSet<u64>,
    pub gaps: BTreeSet<u64>,
    pub dead: BTreeSet<u64>,
}

/// What is known of a sink's run when it ends.
pub struct Ended {
    pub start: Place,
    pub position: u64,
    pub accepted: Vec<u64>,
    pub sink: SinkStats,
}

impl Books {
    /// Closes the books of a run in which the cursor went from `start` to `position`; `done` of what lies
    /// between had been accepted before. Whatever it passed it delivered, or counted.
    /// `dead` became letters in that run. Returns the gaps.
    pub fn close(&mut self, ended: &Ended, dead: &[u64]) -> BTreeSet<u64> {
        let Ended { start, sink, .. } = ended;
        let accepted: BTreeSet<u64> = ended.accepted.iter().copied().collect();
        assert_eq!(
            accepted.len(),
            ended.accepted.len(),
            "nothing is accepted twice in one run"
        );
        let done = &start.intervals;
        let is_known = |offset: &u64| accepted.contains(offset) || dead.contains(offset);
        assert!(
            accepted.iter().all(|offset| !dead.contains(offset)),
            "what is accepted is not given up in the same run"
        );
        assert!(sink.failed_total <= dead.len() as u64, "letters first");
        let is_done = |offset: &u64| done.iter().any(|(from, to)| (*from..*to).contains(offset));
        let passed = start.position..ended.position;
        let gaps = passed.filter(|offset| !is_known(offset) && !is_done(offset));
        let gaps: BTreeSet<u64> = gaps.collect();
        let skipped = sink.dropped_total + sink.dropped_never_durable;
        assert_eq!(
            gaps.len() as u64,
            skipped,
            "each gap is counted once: {sink:?}"
        );
        self.accepted.extend(accepted);
        self.dead.extend(dead);
        self.gaps.extend(&gaps);
        gaps
    }
}
