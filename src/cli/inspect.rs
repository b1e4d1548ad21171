//! `inspect`: says what lies in a store.

use super::table::columns;
use super::{Arguments, Done, bytes, json_string, print, time, view};
use crate::format::{Loss, PAGE_SIZE};
use crate::log::Summary;

pub const HELP: &str = "\
usage: forebay inspect DIR [--json]

Says what lies in the store in a directory: checkpoint, segments, cursors, sources and losses. Takes no lock and changes
nothing.

  --json    one JSON object, for programs

example: forebay inspect /var/lib/forebay/telemetry
";

pub fn main(mut arguments: Arguments) -> Done {
    let (path, is_json) = arguments.path_and_json("DIR")?;
    let view = view(&path)?;
    let ledger = view.shared().ledger().ranges().to_vec();
    let summary = view.summary();
    print(&if is_json {
        json(summary, &ledger)
    } else {
        text(summary, &ledger)
    })
}

fn text(summary: &Summary, ledger: &[Loss]) -> String {
    let checkpoint = &summary.checkpoint;
    let state = match (summary.is_live, summary.report.is_clean) {
        (true, _) => "live",
        (false, true) => "closed cleanly",
        (false, false) => "not closed cleanly",
    };
    let mut text = format!(
        "store {} epoch {}, stream \"{}\", {state}\n",
        summary.store, summary.epoch, checkpoint.name
    );
    text.push_str(&format!(
        "checkpoint {} of {}: head {}, mark {}, life {}{}\n",
        checkpoint.generation,
        time::format_ms(checkpoint.written.wall_ms),
        checkpoint.head,
        checkpoint.mark,
        checkpoint.life,
        if summary.is_checkpoint_damaged {
            ", a slot of it is damaged"
        } else {
            ""
        },
    ));
    let heading = ["file", "base", "life", "size"].map(str::to_owned).to_vec();
    let mut rows = vec![heading];
    for segment in &summary.segments {
        let size = bytes(u64::from(segment.pages) * PAGE_SIZE as u64);
        let name = crate::segment::file_name(segment.number);
        let mut row = vec![
            name,
            segment.base.to_string(),
            segment.life.to_string(),
            size,
        ];
        if has_bad_header(summary, segment.number) {
            row.push("a copy of the header is damaged".to_owned());
        }
        rows.push(row);
    }
    text.push_str(&columns(&rows));
    for aside in &summary.aside {
        let size = bytes(aside.pages * PAGE_SIZE as u64);
        text.push_str(&format!("{}: kept for its damage, {size}\n", aside.name));
    }
    for cursor in &checkpoint.cursors {
        text.push_str(&format!(
            "cursor {} at {}\n",
            cursor.name, cursor.place.position
        ));
        for (from, to) in &cursor.place.intervals {
            text.push_str(&format!("  and {from} to {}\n", to - 1));
        }
    }
    for source in &checkpoint.sources {
        let position = source.position.escape_ascii();
        text.push_str(&format!(
            "source {} at {position} (record {})\n",
            source.name, source.offset
        ));
    }
    for loss in ledger {
        text.push_str(&format!(
            "missing {} to {}: {}, {} records\n",
            loss.start,
            loss.end - 1,
            loss.reason.name(),
            loss.count
        ));
    }
    text
}

fn has_bad_header(summary: &Summary, number: u32) -> bool {
    summary.bad_headers.iter().any(|(bad, _)| *bad == number)
}

fn json(summary: &Summary, ledger: &[Loss]) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let checkpoint = &summary.checkpoint;
    let segments = summary.segments.iter().map(|segment| {
        format!(
            "{{\"file\":{},\"base\":{},\"life\":{},\"pages\":{},\"headerDamaged\":{}}}",
            json_string(&crate::segment::file_name(segment.number)),
            segment.base,
            segment.life,
            segment.pages,
            has_bad_header(summary, segment.number)
        )
    });
    let cursors = checkpoint.cursors.iter().map(|cursor| {
        let intervals = cursor
            .place
            .intervals
            .iter()
            .map(|(from, to)| format!("[{from},{to}]"));
        format!(
            "{{\"name\":{},\"position\":{},\"intervals\":{}}}",
            json_string(&cursor.name),
            cursor.place.position,
            list(intervals.collect())
        )
    });
    let sources = checkpoint.sources.iter().map(|source| {
        let position = source.position.escape_ascii().to_string();
        let (name, offset) = (json_string(&source.name), source.offset);
        format!(
            "{{\"name\":{name},\"offset\":{offset},\"position\":{}}}",
            json_string(&position)
        )
    });
    let aside = summary.aside.iter().map(|aside| {
        let (name, size) = (json_string(&aside.name), aside.pages * PAGE_SIZE as u64);
        format!("{{\"file\":{name},\"bytes\":{size}}}")
    });
    let losses = ledger.iter().map(|loss| {
        format!(
            "{{\"start\":{},\"end\":{},\"records\":{},\"reason\":{}}}",
            loss.start,
            loss.end,
            loss.count,
            json_string(loss.reason.name())
        )
    });
    format!(
        "{{\"store\":{},\"epoch\":{},\"stream\":{},\"live\":{},\"clean\":{},\"generation\":{},\
         \"head\":{},\"mark\":{},\"life\":{},\"next\":{},\"end\":{},\"checkpointDamaged\":{},\
         \"otherFiles\":{},\"aside\":{},\"segments\":{},\"cursors\":{},\"sources\":{},\"ledger\":{}}}\n",
        json_string(&summary.store.to_string()),
        summary.epoch,
        json_string(&checkpoint.name),
        summary.is_live,
        summary.report.is_clean,
        checkpoint.generation,
        checkpoint.head,
        checkpoint.mark,
        checkpoint.life,
        summary.report.next,
        summary.report.end,
        summary.is_checkpoint_damaged,
        summary.other_files,
        list(aside.collect()),
        list(segments.collect()),
        list(cursors.collect()),
        list(sources.collect()),
        list(losses.collect()),
    )
}
