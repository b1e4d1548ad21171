//! Files that are kept aside, that cannot be removed, and that cannot be read.

use std::sync::Mutex;

use super::*;
use crate::storage::{Entry, File, Window};

/// What goes wrong.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// No file is removed.
    Remove,
    /// Names do not become durable.
    Sync,
    /// This page of a file cannot be read.
    Read(u32),
}

type Faults = Arc<Mutex<Fault>>;

/// A directory in which something goes wrong, and a file in it.
struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    fault: Faults,
}

impl<T: ?Sized> Faulty<T> {
    fn has(&self, fault: Fault) -> io::Result<()> {
        match *self.fault.lock().unwrap() == fault {
            true => Err(io::Error::other("on purpose")),
            false => Ok(()),
        }
    }
}

impl Faulty<dyn Dir> {
    fn file(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        let fault = Arc::clone(&self.fault);
        Ok(Arc::new(Faulty {
            inner: file?,
            fault,
        }))
    }
}

fn faulty(inner: Arc<dyn Dir>) -> (Arc<dyn Dir>, Faults) {
    let fault = Faults::default();
    let dir = Arc::new(Faulty {
        inner,
        fault: Arc::clone(&fault),
    });
    (dir, fault)
}

impl Dir for Faulty<dyn Dir> {
    fn list(&self) -> io::Result<Vec<Entry>> {
        self.inner.list()
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.file(self.inner.create(name))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.file(self.inner.open(name))
    }
    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.file(self.inner.open_to_read(name))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.has(Fault::Remove)?;
        self.inner.remove(name)
    }
    fn sync(&self) -> io::Result<()> {
        self.has(Fault::Sync)
    }
    fn device(&self) -> u64 {
        self.inner.device()
    }
    fn volatile(&self) -> Option<&'static str> {
        self.inner.volatile()
    }
    fn allocated(&self) -> io::Result<u64> {
        self.inner.allocated()
    }
}

impl File for Faulty<dyn File> {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let page = |at: u64| u32::try_from(at / PAGE_SIZE as u64).unwrap();
        for page in page(position)..page(position + buf.len() as u64) {
            self.has(Fault::Read(page))?;
        }
        self.inner.read_at(buf, position)
    }
    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buf, position)
    }
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.inner.write_at(bytes, position)
    }
    fn preallocate(&self, size: u64) -> io::Result<()> {
        self.inner.preallocate(size)
    }
    fn is_ready_when_preallocated(&self) -> bool {
        true
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.inner.set_size(size)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
    fn drop_cache(&self) {}
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn allocated(&self) -> io::Result<u64> {
        self.inner.allocated()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
    fn is_locked(&self) -> io::Result<bool> {
        self.inner.is_locked()
    }
    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn Window>> {
        self.inner.map(position, len)
    }
}

fn names(dir: &dyn Dir) -> Vec<String> {
    let mut names: Vec<String> = dir.list().unwrap().into_iter().map(|e| e.name).collect();
    names.retain(|name| name != "lock" && name != "checkpoint");
    names.sort_unstable();
    names
}

/// What cannot be removed counts as taken and keeps its number, until it is gone: durably.
#[test]
fn a_file_that_cannot_be_removed_is_tried_again() {
    let (dir, fault) = faulty(ram_dir(8 << 20));
    let Opened { mut log, board, .. } = log_in(&dir);
    append(&mut log, 1);
    log.commit().unwrap();
    log.report_space();
    let taken = board.get(StreamCounter::AllocatedBytes);
    let pages = 16;
    for first in [Fault::Remove, Fault::Sync] {
        *fault.lock().unwrap() = first;
        dir.create("spare-000900").unwrap();
        log.remove_file("spare-000900".to_owned(), 900, pages);
        log.report_space();
        let more = board.get(StreamCounter::AllocatedBytes) - taken;
        assert_eq!(more, u64::from(pages) * PAGE_SIZE as u64);
        log.remove_leftovers();
        assert_eq!(log.leftovers.len(), 1, "still");
        assert!(log.shared().with_table(|table| table.has_number(900)));
        *fault.lock().unwrap() = Fault::None;
        log.remove_leftovers();
        log.report_space();
        assert_eq!(board.get(StreamCounter::AllocatedBytes), taken);
        assert!(!log.shared().with_table(|table| table.has_number(900)));
        assert!(!names(&*dir).contains(&"spare-000900".to_owned()));
    }
}

/// An error that passes, in a page that a record goes on in, is no damage.
#[test]
fn a_page_that_cannot_be_read_for_once_costs_nothing() {
    let (dir, fault) = faulty(ram_dir(8 << 20));
    let mut log = log_in(&dir).log;
    append(&mut log, 60);
    log.commit().unwrap();
    let segment = log.shared().segments()[0].clone();
    let written = HEADER_COPIES..log.shared().end_slot(segment.life).unwrap();
    for page in written {
        let mut reader = Reader::new(Arc::clone(log.shared()), Arc::clone(&log.clock)).unwrap();
        let mut batch = BatchBuffer::new(100, 100_000, 1000).unwrap();
        *fault.lock().unwrap() = Fault::Read(page);
        let done = reader.read(0, u64::MAX, &mut batch);
        let next = match done {
            Err(_) => reader.position(),
            Ok(done) => panic!("{page} was not read: {done:?}"),
        };
        *fault.lock().unwrap() = Fault::None;
        let done = reader.read(next, u64::MAX, &mut batch).unwrap();
        assert_eq!(
            (done, batch.entries().len()),
            ((Ended::CaughtUp, 60), 60),
            "{page}"
        );
    }
    assert!(log.shared().ledger().ranges().is_empty());
}

/// Of what is kept aside the oldest goes first, whatever its number is.
#[test]
fn of_files_that_are_kept_aside_the_oldest_goes_first() {
    let dir = ram_dir(8 << 20);
    for name in ["damaged-000001-5", "damaged-000002-3", "damaged-000003-9"] {
        let file = dir.create(name).unwrap();
        file.preallocate(16 * PAGE_SIZE as u64).unwrap();
    }
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::System::new());
    let options = Options {
        segment_bytes: 1 << 16,
        aside_bytes_max: 2 * (16 * PAGE_SIZE as u64),
        ..small()
    };
    let _opened = open_small(&dir, &clock, options, &|_| Ok(Left::Nothing)).unwrap();
    assert_eq!(names(&*dir), ["damaged-000001-5", "damaged-000003-9"]);
}

/// A segment is kept aside if something in it is damaged, not its neighbour; as far as the quota goes.
#[test]
fn a_segment_is_kept_aside_for_its_own_damage() {
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::System::new());
    // Where the damage begins and how long it is, from the second segment's base and from its end.
    for (quota, from_end, shift, is_kept) in [
        (16, false, 0, true),
        (15, false, 0, false),
        (16, false, -1, false),
        (16, true, -1, true),
        (16, true, 0, false),
    ] {
        let dir = ram_dir(8 << 20);
        let options = Options {
            segment_bytes: 1 << 16,
            aside_bytes_max: quota * PAGE_SIZE as u64,
            ..small()
        };
        let opened = open_small(&dir, &clock, options, &|_| Ok(Left::Nothing)).unwrap();
        let Opened { mut log, board, .. } = opened;
        while log.shared().segments().len() < 4 {
            append(&mut log, 1);
        }
        log.commit().unwrap();
        let segments = log.shared().segments();
        let at = segments[1 + usize::from(from_end)]
            .base
            .checked_add_signed(shift)
            .unwrap();
        log.shared().ledger().add(Loss {
            start: at,
            end: at + 1,
            count: 1,
            wall_s: 0,
            reason: Reason::Damage,
        });
        // The first one is let go before: its damage is not what is asked for here.
        for to in [segments[1].base, segments[2].base] {
            board.cursor(0).set_place(&Place {
                position: to,
                ..Place::default()
            });
            if to == segments[1].base {
                dir.remove(&segment::file_name(segments[0].number)).unwrap();
            }
            log.checkpoint().unwrap();
        }
        let name = format!("damaged-{:06}-{}", segments[1].number, segments[1].life);
        let told = (quota, from_end, shift);
        assert_eq!(names(&*dir).contains(&name), is_kept, "{told:?}");
    }
}
