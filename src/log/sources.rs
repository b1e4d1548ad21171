//! Where the producers stand in their own sources.

use heapless::{String, Vec};

use super::Shared;
use crate::format::{SOURCES_MAX, SourceEntry};
use crate::record::{SOURCE_POSITION_MAX, Source, source_in};

/// Positions that were appended and are not durable yet. The durable ones are in [`Shared`].
///
/// At most [`SOURCES_MAX`] sources are remembered; of more, those whose records are the oldest are
/// forgotten first.
#[derive(Debug, Default)]
pub struct Sources {
    pending: Vec<SourceEntry, SOURCES_MAX>,
    /// There are durable ones that no checkpoint has.
    is_owed: bool,
}

impl Sources {
    /// Notes the source in a record's extra, if it has one.
    pub fn note(&mut self, offset: u64, extra: &[u8]) {
        if let Some(source) = source_in(extra) {
            put(&mut self.pending, offset, source);
        }
    }

    /// Everything noted is durable now.
    pub fn durable(&mut self, shared: &Shared) {
        if self.pending.is_empty() {
            return;
        }
        let mut durable = shared.sources();
        for entry in &self.pending {
            let source = Source {
                name: &entry.name,
                position: &entry.position,
            };
            put(&mut durable, entry.offset, source);
        }
        self.pending.clear();
        self.is_owed = true;
    }

    /// There are durable positions that no checkpoint has.
    pub fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// A checkpoint has them.
    pub fn written(&mut self) {
        self.is_owed = false;
    }

    /// What was noted did not become durable; it will be noted again.
    pub fn forget_undurable(&mut self) {
        self.pending.clear();
    }

    /// Copies the durable positions into a checkpoint.
    pub fn copy(entries: &mut Vec<SourceEntry, SOURCES_MAX>, shared: &Shared) {
        entries.clone_from(&shared.sources());
    }
}

/// Puts a position in the place of an older one of the same source.
pub fn put(entries: &mut Vec<SourceEntry, SOURCES_MAX>, offset: u64, source: Source<'_>) {
    let Ok(position) = Vec::<u8, SOURCE_POSITION_MAX>::from_slice(source.position) else {
        return;
    };
    if let Some(entry) = entries.iter_mut().find(|entry| entry.name == source.name) {
        if entry.offset <= offset {
            (entry.offset, entry.position) = (offset, position);
        }
        return;
    }
    let Ok(name) = String::try_from(source.name) else {
        return;
    };
    if entries.is_full() {
        let oldest = entries
            .iter()
            .enumerate()
            .min_by_key(|(_, entry)| entry.offset);
        if let Some((at, _)) = oldest {
            entries.swap_remove(at);
        }
    }
    let _ = entries.push(SourceEntry {
        name,
        offset,
        position,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_position_of_each_source_is_kept() {
        let mut entries = Vec::new();
        put(
            &mut entries,
            5,
            Source {
                name: "a",
                position: b"five",
            },
        );
        put(
            &mut entries,
            3,
            Source {
                name: "a",
                position: b"three",
            },
        );
        put(
            &mut entries,
            4,
            Source {
                name: "b",
                position: b"",
            },
        );
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (entries[0].offset, &entries[0].position[..]),
            (5, &b"five"[..])
        );
        for n in 0..SOURCES_MAX as u64 {
            put(
                &mut entries,
                10 + n,
                Source {
                    name: &format!("s{n}"),
                    position: b"",
                },
            );
        }
        assert_eq!(entries.len(), SOURCES_MAX);
        assert!(
            entries
                .iter()
                .all(|entry| entry.name != "a" && entry.name != "b")
        );
    }

    /// The durable position of the only source.
    fn position(shared: &Shared) -> std::vec::Vec<u8> {
        let mut entries = Vec::new();
        Sources::copy(&mut entries, shared);
        let only = entries.first().map(|entry| entry.position.to_vec());
        only.unwrap_or_default()
    }

    #[test]
    fn a_position_counts_when_its_record_is_durable() {
        let store = crate::format::StoreId(*b"0123456789abcdef");
        let shared = Shared::new(store, 1, 0, 0, crate::log::Ledger::default());
        let mut sources = Sources::default();
        let note = |sources: &mut Sources, offset, position| {
            let source = Source {
                name: "a",
                position,
            };
            put(&mut sources.pending, offset, source);
        };
        sources.durable(&shared);
        assert!(!sources.is_owed(), "there is none");
        note(&mut sources, 4, b"four");
        assert_eq!(position(&shared), b"");
        sources.durable(&shared);
        assert_eq!(position(&shared), b"four");
        assert!(sources.is_owed());
        sources.written();
        assert!(!sources.is_owed());
        note(&mut sources, 5, b"five");
        sources.forget_undurable();
        sources.durable(&shared);
        assert_eq!(position(&shared), b"four");
        assert!(!sources.is_owed());
    }
}
