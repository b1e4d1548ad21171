//! `append`: stores records from standard input.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Argument, Arguments, Done, Failure, config, place, required, say};
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::input::{Progress, stdin};

pub const HELP: &str = "\
usage: forebay append CONFIG STREAM [--key KEY] [--format lines|ndjson]

Stores a record for each line of standard input. Returns when they are durable; nothing is delivered: that is for
`forebay run`. While an engine runs, it has the store, and this is refused: give it an input instead.

  --key KEY          the key of records whose line has none
  --format lines     a line is a payload (default)
  --format ndjson    a line is an object with payload or payloadBase64, and perhaps key, timeMs and properties

example: printf 'one\\ntwo\\n' | forebay append forebay.json telemetry --key pump-7
";

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut stream) = (None, None);
    let mut options = stdin::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "key" => options.key = arguments.value()?,
            Argument::Option(name) if name == "format" => {
                options.is_json = match arguments.value()?.as_str() {
                    "lines" => false,
                    "ndjson" => true,
                    other => {
                        return Err(Failure::Usage(format!(
                            "--format {other}: must be lines or ndjson"
                        )));
                    }
                };
            }
            argument => place(&mut [&mut path, &mut stream], argument)?,
        }
    }
    let (path, stream) = (required(path, "CONFIG")?, required(stream, "STREAM")?);
    let config = config(&path)?.only(&stream.to_string_lossy())?;
    if config.store_path(&stream.to_string_lossy()).is_none() {
        let text = "the stream lies in memory: what is appended would end with this process";
        return Err(Error::text(Code::InvalidArg, "append", text.to_owned()).into());
    }
    let engine = Engine::open_to_store(&config)?;
    let stream = engine.stream(&stream.to_string_lossy())?;
    let progress = Progress::default();
    stdin::append_stdin(&options, &stream, &progress)?;
    stream.flush(Duration::from_secs(60))?;
    engine.close(Duration::from_secs(60))?;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (malformed, refused) = (count(&progress.malformed), count(&progress.refused));
    let records = count(&progress.records);
    say(&format!(
        "{records} records stored, {malformed} malformed, {refused} refused\n"
    ));
    if malformed + refused > 0 {
        Err(Failure::Found)
    } else {
        Ok(())
    }
}
