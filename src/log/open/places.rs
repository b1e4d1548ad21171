//! Where cursors start.

use std::sync::Arc;

use heapless::String as Name;

use super::decide::{self, Decided};
use crate::clock::Clock;
use crate::counters::{Board, CURSOR_NAME_MAX, CURSORS_MAX, Place};
use crate::format::{Checkpoint, StoreId};

/// Where the cursors start: as the board of this boot says, or the checkpoint, or as configured. One that
/// no checkpoint has is not new for certain where that of a run may be lost: it starts at the oldest.
pub(super) fn places(
    cursors: &[(Name<CURSOR_NAME_MAX>, bool)],
    board: &Board,
    (last, is_of_last): (&Checkpoint, bool),
    clock: &Arc<dyn Clock>,
    store: StoreId,
    decided: &Decided,
) -> Vec<(Name<CURSOR_NAME_MAX>, Place)> {
    let is_of_last_run = decide::is_of_last_run(board, store, last, clock.boot());
    assert!(cursors.len() <= CURSORS_MAX, "the configuration is bounded");
    cursors
        .iter()
        .map(|(name, starts_newest)| {
            let saved = last.cursors.iter().find(|entry| entry.name == *name);
            let saved = saved.map(|entry| entry.place.clone());
            let on_board = board.place_of(name).filter(|_| is_of_last_run);
            let newer = on_board.filter(|place| {
                let saved = saved.as_ref().map_or(0, |saved| saved.position);
                place.position >= saved && place.position <= decided.next
            });
            let position = if *starts_newest && is_of_last {
                decided.next
            } else {
                last.head
            };
            let mut place = newer.or(saved).unwrap_or(Place {
                position,
                ..Place::default()
            });
            // One that stands below the head stays there: its exporter skips what was dropped, and counts it.
            place.position = place.position.min(decided.next);
            place
                .intervals
                .retain(|(from, to)| *from > place.position && *to <= decided.next);
            (name.clone(), place)
        })
        .collect()
}
