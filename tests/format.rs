//! The bytes on disk, held against `docs/format.md`: golden bytes for each structure, and the tables of
//! that page read back and compared with what the code puts where.

use forebay::clock::Stamp;
use forebay::counters::Place;
use forebay::format::{
    Checkpoint, CursorEntry, FORMAT, Fault, Loss, PAGE_SIZE, PageHeader, Reason, RecordHeader,
    SLOT_SIZE, Seal, SegmentHeader, SourceEntry, StoreId,
};

const STAMP: Stamp = Stamp {
    boot: 0x0b0b,
    mono_ms: 0x0c0c,
    wall_ms: 0x0d0d,
};

fn store() -> StoreId {
    StoreId(*b"0123456789abcdef")
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        store: store(),
        epoch: 0x0101,
        base: 0x0202,
        life: 0x0303,
        number: 0x0404,
        pages: 0x0505,
        prepared: STAMP,
        name: "telemetry".try_into().unwrap(),
    }
}

fn page_header() -> PageHeader {
    PageHeader {
        is_tail: true,
        store: store().tag(),
        base: 0x0202,
        life: 0x0303,
        first: 0x0404,
        mark: 0x0505,
        stamp: STAMP,
        slot: 0x0606,
        carried: 0x0707,
        tail: 0x0808,
        start: 0x0909,
        count: 0x0a0a,
    }
}

fn checkpoint() -> Checkpoint {
    let mut place = Place {
        position: 0x1111,
        ..Place::default()
    };
    place.intervals.push((0x1212, 0x1313)).unwrap();
    let mut checkpoint = Checkpoint {
        store: store(),
        epoch: 0x0101,
        generation: 0x0202,
        life: 0x0303,
        mark: 0x0404,
        opened: 0x0505,
        reach: 0x0606,
        head: 0x0707,
        ring_records: 0x0808,
        segment: 0x0909,
        page: 0x0a0a,
        written: STAMP,
        is_clean: true,
        name: "telemetry".try_into().unwrap(),
        ..Checkpoint::default()
    };
    checkpoint
        .cursors
        .push(CursorEntry {
            name: "file".try_into().unwrap(),
            place,
        })
        .unwrap();
    let position = heapless::Vec::from_slice(b"17").unwrap();
    let source = SourceEntry {
        name: "tail:x".try_into().unwrap(),
        offset: 0x1414,
        position,
    };
    checkpoint.sources.push(source).unwrap();
    let loss = Loss {
        start: 0x1515,
        end: 0x1616,
        count: 0x17,
        wall_s: 0x1818,
        reason: Reason::Damage,
    };
    checkpoint.ledger.push(loss).unwrap();
    checkpoint
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_segment_header() {
    let mut page = [0xee; PAGE_SIZE];
    segment_header().encode(&mut page);
    assert_eq!(
        hex(&page[..163]),
        concat!(
            "8333b33d666261795345470a010000003031323334353637383961626364656601010000000000000202000000000000",
            "0303000000000000040400000505000000100000000000000b0b0000000000000c0c0000000000000d0d000000000000",
            "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000090074656c656d65747279",
        )
    );
    assert!(page[163..512].iter().all(|byte| *byte == 0));
    assert_eq!(SegmentHeader::decode(&page), Ok(segment_header()));
}

#[test]
fn golden_page_header() {
    let mut page = [0; PAGE_SIZE];
    page_header().encode(&mut page);
    assert_eq!(
        hex(&page[..88]),
        concat!(
            "a04d7b30b146010130313233343536370202000000000000030300000000000004040000000000000505000000000000",
            "0b0b0000000000000c0c0000000000000d0d00000000000006060000070700000808000009090a0a",
        )
    );
    assert_eq!(PageHeader::decode(&page), Some(page_header()));
}

#[test]
fn golden_record() {
    let mut header = RecordHeader {
        checksum: 0,
        size: 24 + 7,
        time_ms: 0x0101,
        delta_ms: 0x0202,
        key_len: 3,
        extra_len: 0,
    };
    let seal = Seal::new(store().tag(), 0x0303);
    let mut record = [0; 24 + 7];
    record[24..].copy_from_slice(b"keydata");
    header.encode_to(&mut record);
    header.checksum = seal.checksum(0x0404, &[&record[4..]]);
    header.encode_to(&mut record);
    assert_eq!(
        hex(&record),
        "15b60c4a1f000000010100000000000002020000030000006b657964617461"
    );
    assert_eq!(RecordHeader::decode(&record), Some(header));
    assert!(seal.verifies(0x0404, &record));
    assert!(!seal.verifies(0x0405, &record), "at another offset");
    assert!(
        !Seal::new(store().tag(), 0x0304).verifies(0x0404, &record),
        "in another life"
    );
    assert!(
        !Seal::new(1, 0x0303).verifies(0x0404, &record),
        "in another store"
    );

    let header = RecordHeader {
        size: 0x1000,
        extra_len: 0x0506,
        ..header
    };
    header.encode_to(&mut record);
    assert_eq!(hex(&record[16..24]), "0202000003000605");
    assert_eq!(RecordHeader::decode(&record), Some(header));
}

#[test]
fn golden_checkpoint() {
    let mut slot = vec![0xee; SLOT_SIZE];
    let len = checkpoint().encode(&mut slot);
    assert_eq!(len, 4096);
    assert_eq!(slot[..2048], slot[2048..4096], "both halves say the same");
    let size = u32::from_le_bytes(slot[12..16].try_into().unwrap()) as usize;
    assert_eq!(
        hex(&slot[..size]),
        concat!(
            "6bdd346e6662434b01000100fd0000003031323334353637383961626364656601010000000000000202000000000000",
            "030300000000000004040000000000000505000000000000060600000000000007070000000000000808000009090000",
            "0a0a0000000000000b0b0000000000000c0c0000000000000d0d00000000000000000000000000000000000000000000",
            "0000000000000000090001000100010074656c656d657472790401000011110000000000001212000000000000131300",
            "000000000066696c650602000014140000000000007461696c3a78313715150000000000001616000000000000170000",
            "00000000001818000003000000",
        )
    );
    assert_eq!(Checkpoint::decode(&slot), Ok(checkpoint()));
}

/// The rows of a table of the page: position, size, text.
fn table(page: &str, heading: &str) -> Vec<(usize, usize, String)> {
    let start = page
        .find(heading)
        .unwrap_or_else(|| panic!("{heading} stands in the page"));
    let lines = page[start..]
        .lines()
        .skip_while(|line| !line.starts_with("| at "));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        Some((
            cells[0].parse().ok()?,
            cells[1].parse().ok()?,
            cells[2].to_owned(),
        ))
    })
    .collect()
}

/// Each value of these headers appears exactly where the page says, under the words that it uses.
#[test]
fn the_tables_of_the_page_are_what_the_code_writes() {
    let page = include_str!("../docs/format.md");
    let check = |heading: &str, bytes: &[u8], expected: &[(&str, u64)]| {
        let rows = table(page, heading);
        let mut end = 0;
        for (at, size, text) in &rows {
            assert_eq!(*at, end, "{heading}: {text} follows without a gap");
            end = at + size;
        }
        for (words, value) in expected {
            let row = rows.iter().find(|(_, _, text)| text.starts_with(words));
            let (at, size, _) = row.unwrap_or_else(|| panic!("{heading}: no row \"{words}\""));
            let mut number = [0; 8];
            number[..*size].copy_from_slice(&bytes[*at..at + size]);
            assert_eq!(u64::from_le_bytes(number), *value, "{heading}: {words}");
        }
    };
    let mut bytes = [0; PAGE_SIZE];
    segment_header().encode(&mut bytes);
    check(
        "### The header of a segment",
        &bytes,
        &[
            ("format", 1),
            ("epoch", 0x0101),
            ("base", 0x0202),
            ("life", 0x0303),
            ("number of the file", 0x0404),
            ("length of the file", 0x0505),
            ("size of a page", 4096),
            ("boot", 0x0b0b),
            ("milliseconds since that boot", 0x0c0c),
            ("milliseconds since 1970", 0x0d0d),
            ("cipher", 0),
            ("length of the stream's name", 9),
        ],
    );
    page_header().encode(&mut bytes);
    check(
        "### Pages",
        &bytes,
        &[
            ("`0x46B1`", 0x46b1),
            ("format", 1),
            ("flags", 1),
            ("first half", store().tag()),
            ("base", 0x0202),
            ("life", 0x0303),
            ("offset of the first record", 0x0404),
            ("mark", 0x0505),
            ("boot", 0x0b0b),
            ("milliseconds since that boot", 0x0c0c),
            ("milliseconds since 1970", 0x0d0d),
            ("number of this page", 0x0606),
            ("carried", 0x0707),
            ("first of this life's", 0x0808),
            ("where in the page", 0x0909),
            ("how many records", 0x0a0a),
        ],
    );
    let mut slot = vec![0; SLOT_SIZE];
    checkpoint().encode(&mut slot);
    check(
        "## The checkpoint",
        &slot,
        &[
            ("format", 1),
            ("flags", 1),
            ("epoch", 0x0101),
            ("generation", 0x0202),
            ("the greatest life", 0x0303),
            ("mark", 0x0404),
            ("opened", 0x0505),
            ("reach", 0x0606),
            ("head", 0x0707),
            ("the most records", 0x0808),
            ("number of the active", 0x0909),
            ("the page in which", 0x0a0a),
            ("boot", 0x0b0b),
            ("milliseconds since that boot", 0x0c0c),
            ("milliseconds since 1970", 0x0d0d),
            ("length of the stream's name", 9),
            ("how many cursors", 1),
            ("how many sources", 1),
            ("how many losses", 1),
        ],
    );
}

/// `L-37`: one flipped bit anywhere in a header is seen, and the other half of a checkpoint still stands.
#[test]
fn every_flipped_bit_is_seen() {
    let mut header = [0; PAGE_SIZE];
    segment_header().encode(&mut header);
    let mut page = [0; PAGE_SIZE];
    page_header().encode(&mut page);
    for bit in 0..512 * 8 {
        let flip = 1 << (bit % 8);
        header[bit / 8] ^= flip;
        assert!(SegmentHeader::decode(&header).is_err(), "bit {bit}");
        header[bit / 8] ^= flip;
    }
    for bit in 0..88 * 8 {
        let flip = 1 << (bit % 8);
        page[bit / 8] ^= flip;
        assert_eq!(PageHeader::decode(&page), None, "bit {bit}");
        page[bit / 8] ^= flip;
    }
    let mut slot = vec![0; SLOT_SIZE];
    checkpoint().encode(&mut slot);
    for bit in 0..4096 * 8 {
        let flip = 1 << (bit % 8);
        slot[bit / 8] ^= flip;
        assert_eq!(Checkpoint::decode(&slot), Ok(checkpoint()), "bit {bit}");
        slot[bit / 8] ^= flip;
    }
}

/// `G-078`, `L-27`: a newer format is recognised for what it is, not taken for damage.
#[test]
fn a_newer_format_is_named() {
    let mut page = [0; PAGE_SIZE];
    segment_header().encode(&mut page);
    page[12] = 2;
    let sum = crc32fast::hash(&page[4..512]);
    page[..4].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&page), Err(Fault::Newer(FORMAT + 1)));

    let mut page = [0; PAGE_SIZE];
    page_header().encode(&mut page);
    page[6] = 2;
    let sum = crc32fast::hash(&page[4..88]);
    page[..4].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(PageHeader::decode(&page), None);

    let mut slot = vec![0; SLOT_SIZE];
    checkpoint().encode(&mut slot);
    slot[8] = 2;
    let size = u32::from_le_bytes(slot[12..16].try_into().unwrap()) as usize;
    let sum = crc32fast::hash(&slot[4..size]);
    slot[..4].copy_from_slice(&sum.to_le_bytes());
    let newer = Err(Fault::Newer(FORMAT + 1));
    assert_eq!(Checkpoint::decode(&slot), newer);
}

/// What is said of a store in words: its id, and why records are gone.
#[test]
fn words() {
    assert_eq!(store().to_string(), "30313233343536373839616263646566");
    let reasons = [
        Reason::Quota,
        Reason::Age,
        Reason::Damage,
        Reason::NeverDurable,
        Reason::Undecided,
    ];
    let names = ["quota", "age", "damage", "neverDurable", "undecided"];
    assert_eq!(reasons.map(Reason::name), names);
}

/// Of two halves the newer one counts, wherever it stands.
#[test]
fn the_newer_half_of_a_slot_counts() {
    let [mut older, mut newer] = [vec![0; SLOT_SIZE], vec![0; SLOT_SIZE]];
    let mut next = checkpoint();
    next.generation += 1;
    checkpoint().encode(&mut older);
    next.encode(&mut newer);
    let slot = [&older[..2048], &newer[2048..]].concat();
    assert_eq!(Checkpoint::decode(&slot), Ok(next.clone()));
    let slot = [&newer[..2048], &older[2048..]].concat();
    assert_eq!(Checkpoint::decode(&slot), Ok(next));
}

/// A half of a slot that begins like one, or verifies, and is none.
#[test]
fn half_a_checkpoint_is_none() {
    let mut slot = vec![0; SLOT_SIZE];
    checkpoint().encode(&mut slot);
    slot.truncate(2048);
    let whole = slot.clone();
    for size in [0_u32, 3, 100, u32::MAX] {
        slot[12..16].copy_from_slice(&size.to_le_bytes());
        assert_eq!(Checkpoint::decode(&slot), Err(Fault::Invalid), "{size}");
    }
    slot.clone_from(&whole);
    slot[4] ^= 1;
    let size = u32::from_le_bytes(slot[12..16].try_into().unwrap()) as usize;
    let sum = crc32fast::hash(&slot[4..size]);
    slot[..4].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(
        Checkpoint::decode(&slot),
        Err(Fault::Invalid),
        "another magic"
    );
    assert_eq!(Checkpoint::decode(&whole), Ok(checkpoint()));
}

/// What verifies and names a number that cannot have been written is nothing: sums of offsets would wrap.
#[test]
fn numbers_beyond_their_bounds_are_nothing() {
    const OFFSET: u64 = 1 << 60;
    const LIFE: u64 = 1 << 43;
    const PAGES: u32 = (1 << 20) - 1;

    let segment = |change: fn(&mut SegmentHeader)| {
        let mut header = segment_header();
        change(&mut header);
        let mut page = [0; PAGE_SIZE];
        header.encode(&mut page);
        SegmentHeader::decode(&page).is_ok_and(|read| read == header)
    };
    assert!(segment(|header| header.base = OFFSET - 1));
    assert!(!segment(|header| header.base = OFFSET));
    assert!(segment(|header| header.life = LIFE - 1));
    assert!(!segment(|header| header.life = LIFE));
    assert!(segment(|header| header.pages = 6));
    assert!(!segment(|header| header.pages = 5));
    assert!(segment(|header| header.pages = PAGES));
    assert!(!segment(|header| header.pages = PAGES + 1));

    let page = |change: fn(&mut PageHeader)| {
        let mut header = page_header();
        change(&mut header);
        let mut page = [0; PAGE_SIZE];
        header.encode(&mut page);
        PageHeader::decode(&page).is_some_and(|read| read == header)
    };
    assert!(page(|header| header.base = OFFSET - 1));
    assert!(!page(|header| header.base = OFFSET));
    assert!(page(|header| header.first = OFFSET - 1));
    assert!(!page(|header| header.first = OFFSET));
    assert!(page(|header| header.mark = OFFSET - 1));
    assert!(!page(|header| header.mark = OFFSET));
    assert!(page(|header| header.life = LIFE - 1));
    assert!(!page(|header| header.life = LIFE));
    assert!(page(|header| header.tail = PAGES - 1));
    assert!(!page(|header| header.tail = PAGES));
    assert!(page(|header| header.start = 88));
    assert!(!page(|header| header.start = 87));
    assert!(page(|header| header.start = 4096));
    assert!(!page(|header| header.start = 4097));

    let slot = |change: fn(&mut Checkpoint)| {
        let mut written = checkpoint();
        change(&mut written);
        let mut slot = vec![0; SLOT_SIZE];
        written.encode(&mut slot);
        Checkpoint::decode(&slot).is_ok_and(|read| read == written)
    };
    assert!(slot(|at| at.life = LIFE - 1));
    assert!(!slot(|at| at.life = LIFE));
    assert!(slot(|at| at.generation = (u64::MAX >> 1) - 1));
    assert!(!slot(|at| at.generation = u64::MAX >> 1));
    assert!(slot(|at| at.page = PAGES));
    assert!(!slot(|at| at.page = PAGES + 1));
    assert!(!slot(|at| at.mark = OFFSET));
    assert!(!slot(|at| at.opened = OFFSET));
    assert!(!slot(|at| at.reach = OFFSET));
    assert!(!slot(|at| at.head = OFFSET));
    assert!(slot(|at| at.sources[0].offset = OFFSET - 1));
    assert!(!slot(|at| at.sources[0].offset = OFFSET));
    assert!(!slot(|at| at.cursors[0].place.position = OFFSET));
    fn intervals(at: &mut Checkpoint, from: u64, to: u64) {
        at.cursors[0].place.intervals[0] = (from, to);
    }
    assert!(
        slot(|at| intervals(at, 0x1111, OFFSET - 1)),
        "they may touch"
    );
    assert!(
        !slot(|at| intervals(at, 0x1110, 0x1313)),
        "below its position"
    );
    assert!(!slot(|at| intervals(at, 0x1212, 0x1212)), "empty");
    assert!(!slot(|at| intervals(at, 0x1212, OFFSET)));
    assert!(slot(|at| at.ledger[0].count = 0x0101), "all of the range");
    assert!(
        !slot(|at| at.ledger[0].count = 0x0102),
        "more than the range"
    );
    assert!(
        !slot(|at| (at.ledger[0].end, at.ledger[0].count) = (0x1515, 0)),
        "empty"
    );
    assert!(slot(|at| at.ledger[0].end = OFFSET - 1));
    assert!(!slot(|at| at.ledger[0].end = OFFSET));
    fn more(at: &mut Checkpoint, start: u64) {
        let (end, count) = (0x1717, 1);
        let loss = Loss {
            start,
            end,
            count,
            ..at.ledger[0]
        };
        at.ledger.push(loss).unwrap();
    }
    assert!(slot(|at| more(at, 0x1616)), "they may touch");
    assert!(!slot(|at| more(at, 0x1615)), "they overlap");
}

/// The largest checkpoint that there can be fits its half, and comes back.
#[test]
fn a_full_checkpoint_fits() {
    let mut full = checkpoint();
    full.name = "n".repeat(249).as_str().try_into().unwrap();
    full.cursors.clear();
    for n in 0..forebay::counters::CURSORS_MAX {
        let name = format!("{n:064}").as_str().try_into().unwrap();
        let mut place = Place {
            position: n as u64,
            ..Place::default()
        };
        for at in 0..forebay::counters::INTERVALS_MAX as u64 {
            place.intervals.push((100 + at * 2, 101 + at * 2)).unwrap();
        }
        full.cursors.push(CursorEntry { name, place }).unwrap();
    }
    full.sources.clear();
    for n in 0..forebay::format::SOURCES_MAX {
        let name = format!("{n:0128}").as_str().try_into().unwrap();
        let position = heapless::Vec::from_slice(&[7; 64]).unwrap();
        full.sources
            .push(SourceEntry {
                name,
                offset: n as u64,
                position,
            })
            .unwrap();
    }
    let mut loss = full.ledger[0];
    let len = loss.end - loss.start;
    loop {
        (loss.start, loss.end) = (loss.end + 1, loss.end + 1 + len);
        if full.ledger.push(loss).is_err() {
            break;
        }
    }
    let mut slot = vec![0; SLOT_SIZE];
    assert_eq!(full.encode(&mut slot), SLOT_SIZE);
    assert_eq!(Checkpoint::decode(&slot), Ok(full));
}

/// Garbage decodes to nothing, and never panics.
#[test]
fn garbage_is_nothing() {
    let mut seed = 1u64;
    let mut bytes = vec![0u8; SLOT_SIZE];
    for round in 0..2000 {
        for byte in &mut bytes[..2 * PAGE_SIZE] {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = seed.to_le_bytes()[7];
        }
        let len = round * 37 % (2 * PAGE_SIZE);
        assert!(SegmentHeader::decode(&bytes[..len]).is_err());
        assert_eq!(PageHeader::decode(&bytes[..len]), None);
        assert!(Checkpoint::decode(&bytes[..len]).is_err());
        let _ = RecordHeader::decode(&bytes[..len]);
    }
}
