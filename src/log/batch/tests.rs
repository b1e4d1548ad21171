//! What a batch takes, in which order, and when it is full.

use super::*;

const FIRST: u64 = 70;

fn seal() -> Seal {
    Seal::new(1, 2)
}

/// A page with records of these lengths from 100 on, as far as they reach.
fn page(lens: &[usize]) -> Vec<u8> {
    let mut page = vec![0; 100];
    for (offset, len) in (FIRST..).zip(lens) {
        let payload = vec![b'x'; *len];
        let mut header = RecordHeader {
            checksum: 0,
            size: u32::try_from(RECORD_HEADER_SIZE + len).unwrap(),
            time_ms: offset,
            delta_ms: 3,
            key_len: 0,
            extra_len: 0,
        };
        let mut bytes = [0; RECORD_HEADER_SIZE];
        header.encode_to(&mut bytes);
        header.checksum = seal().checksum(offset, &[&bytes[4..], &payload]);
        header.encode_to(&mut bytes);
        page.extend(bytes);
        page.extend(payload);
    }
    page.resize(PAGE_SIZE, 0);
    page
}

fn run(page: &[u8], count: u64) -> Run<'_> {
    let stamp = Stamp {
        boot: 9,
        mono_ms: 1000,
        wall_ms: 0,
    };
    Run {
        page,
        place: 100,
        next: FIRST,
        end: FIRST + count,
        stamp,
        seal: seal(),
    }
}

fn offsets(batch: &BatchBuffer) -> Vec<u64> {
    batch.entries().iter().map(|entry| entry.offset).collect()
}

#[test]
fn a_run_is_taken_as_it_stands_in_the_page() {
    let page = page(&[10, 0, 300, 5]);
    let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
    for round in 1..=2 {
        let mut run = run(&page, 4);
        assert!(matches!(batch.take(&mut run), Stop::End));
        assert_eq!(run.next, FIRST + 4);
        assert_eq!(batch.body_len(), round * 315);
    }
    for (index, entry) in batch.entries().iter().enumerate() {
        let view = batch.view(entry);
        assert_eq!(view.payload.len(), [10, 0, 300, 5][index % 4]);
        assert_eq!((view.offset, view.time_ms), (entry.offset, entry.offset));
        assert_eq!((view.appended.mono_ms, view.appended.wall_ms), (1003, 0));
    }
}

#[test]
fn a_batch_that_counts_checks_as_much_and_keeps_nothing() {
    let mut page = page(&[10, 0, 300, 5]);
    let mut batch = BatchBuffer::that_counts(3).unwrap();
    assert!(matches!(batch.take(&mut run(&page, 4)), Stop::Full));
    assert_eq!(
        (batch.count(), batch.entries().len(), batch.body_len()),
        (3, 0, 0)
    );
    batch.clear();
    page[100 + 34 + 24 + 24] ^= 1;
    let mut run = run(&page, 4);
    assert!(matches!(batch.take(&mut run), Stop::Bad));
    assert_eq!((batch.count(), run.next), (2, FIRST + 2));
}

#[test]
fn a_run_stops_at_the_record_that_does_not_verify() {
    let mut page = page(&[10, 20, 30]);
    page[100 + 34 + 44 + 24] ^= 1;
    let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
    let mut run = run(&page, 3);
    assert!(matches!(batch.take(&mut run), Stop::Bad));
    assert_eq!((run.next, run.place), (FIRST + 2, 178));
    assert_eq!(offsets(&batch), [FIRST, FIRST + 1]);
}

#[test]
fn a_run_stops_when_the_batch_is_full() {
    let page = page(&[10, 20, 30]);
    for (records_max, bytes_max, takes) in [(2, 1000, 2), (10, 59, 2), (10, 60, 3), (10, 1, 1)] {
        let mut batch = BatchBuffer::new(records_max, bytes_max, 100).unwrap();
        let mut run = run(&page, 3);
        assert_eq!(matches!(batch.take(&mut run), Stop::Full), takes < 3);
        assert_eq!(offsets(&batch), Vec::from_iter(FIRST..FIRST + takes));
        assert_eq!(run.next, FIRST + takes);
    }
}

#[test]
fn a_run_stops_at_the_record_that_goes_on_in_the_next_page() {
    let page = page(&[3000, 950, 10]);
    let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
    let mut run = run(&page[..PAGE_SIZE], 2);
    assert!(matches!(batch.take(&mut run), Stop::Crosses(header) if header.size == 974));
    assert_eq!((run.next, run.place), (FIRST + 1, 3124));
}

#[test]
fn a_length_that_leads_nowhere_ends_a_run() {
    let mut page = page(&[10]);
    for place in [0, PAGE_SIZE - 5, PAGE_SIZE, PAGE_SIZE + 1, usize::MAX] {
        let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
        let mut run = run(&page, 5);
        run.place = place;
        assert!(matches!(batch.take(&mut run), Stop::NoRecord), "{place}");
        assert!(batch.entries().is_empty());
    }
    page[104..108].fill(0xff);
    let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
    let mut run = run(&page, 1);
    assert!(run.header().is_some_and(|(_, end)| end > PAGE_SIZE));
    assert!(matches!(batch.take(&mut run), Stop::Crosses(_)));
}

fn filled(lens: &[usize]) -> BatchBuffer {
    let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
    batch.take(&mut run(&page(lens), lens.len() as u64));
    assert_eq!(batch.count(), lens.len());
    batch
}

/// The lengths of what is in it.
fn lens(batch: &BatchBuffer) -> Vec<usize> {
    let views = batch.entries().iter().map(|entry| batch.view(entry));
    views.map(|view| view.payload.len()).collect()
}

#[test]
fn what_is_left_of_a_batch_counts() {
    let from = filled(&[10, 0, 300, 5]);
    let mut batch = filled(&[10, 0, 300, 5]);
    batch.keep(|index| index % 2 == 1);
    assert_eq!((batch.count(), batch.body_len()), (2, 5));
    batch.keep(|_| true);
    batch.copy(&from, 2).unwrap();
    assert_eq!(lens(&batch), [0, 5, 300]);
    assert_eq!((batch.count(), batch.body_len()), (3, 305));
    assert_eq!(offsets(&batch), [FIRST + 1, FIRST + 3, FIRST + 2]);
}

/// There is room for one record at least, and twice as much is taken where that is too little.
#[test]
fn a_batch_grows_for_what_is_copied_to_it() {
    let from = filled(&[1000]);
    let mut batch = BatchBuffer::new(1, 100, 5000).unwrap();
    let sizes = (0..20).map(|_| {
        batch.copy(&from, 0).unwrap();
        batch.bytes.len()
    });
    let sizes: Vec<_> = sizes.collect();
    // 1024 bytes each.
    assert_eq!(sizes[..8], [8192; 8]);
    assert_eq!(sizes[8..16], [16_384; 8]);
    assert_eq!(sizes[16..], [32_768; 4]);
    assert_eq!(lens(&batch), [1000; 20]);
}

#[test]
fn a_batch_grows_for_a_record_that_is_longer_than_all_that_are_appended_now() {
    for (part, size) in [(4000, 8192), (4192, 8192), (4193, 16_384), (20_000, 24_576)] {
        let mut batch = BatchBuffer::new(1, 100, 5000).unwrap();
        batch.stage(0, &[1; 4000]);
        batch.stage(4000, &vec![2; part]);
        assert_eq!(batch.bytes.len(), size, "{part}");
        let staged = batch.staged(4000 + part);
        let (first, second) = staged.split_at(4000);
        assert!(first == [1; 4000] && second.iter().all(|byte| *byte == 2));
    }
}
