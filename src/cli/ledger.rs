//! `ledger`: what a store has lost, and why.

use super::table::columns;
use super::{Arguments, Done, json_string, print, time, view};
use crate::format::Loss;

pub const HELP: &str = "\
usage: forebay ledger DIR [--json]

Prints what the store in a directory has lost: ranges of offsets, how many records were lost in each, why, and when that
was found. Of a stopped store also what the next open would find. A range says why what is missing in it is missing, not
that nothing is left in it. Takes no lock and changes nothing.

  quota           the budget was used up, and the oldest records went
  age             they were older than maxAgeSecs
  damage          they had been durable and do not verify
  neverDurable    they had an offset, and a crash came before their sync
  undecided       they were under way when a crash came, and it cannot be told how far

  --json          one JSON object a range

example: forebay ledger /var/lib/forebay/telemetry
";

pub fn main(mut arguments: Arguments) -> Done {
    let (path, is_json) = arguments.path_and_json("DIR")?;
    let view = view(&path)?;
    let ledger = view.shared().ledger().ranges().to_vec();
    if is_json {
        return print(&ledger.iter().map(json).collect::<String>());
    }
    let row = |loss: &Loss| {
        let when = match loss.wall_s {
            0 => "(no clock)".to_owned(),
            wall_s => time::format_ms(u64::from(wall_s) * 1000),
        };
        let range = format!("{} to {}", loss.start, loss.end - 1);
        let count = format!("{} records", loss.count);
        vec![range, count, loss.reason.name().to_owned(), when]
    };
    print(&columns(&ledger.iter().map(row).collect::<Vec<_>>()))
}

fn json(loss: &Loss) -> String {
    format!(
        "{{\"start\":{},\"end\":{},\"records\":{},\"reason\":{},\"foundMs\":{}}}\n",
        loss.start,
        loss.end,
        loss.count,
        json_string(loss.reason.name()),
        u64::from(loss.wall_s) * 1000
    )
}
