//! Lines or frames from a serial line. With flow control it pushes back: while there is no room, it is not
//! read.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use super::cutter::{Cutter, Framing};
use super::feed::{Feed, Patience};
use super::fields::brace;
use super::reader::{Why, read_until};
use super::system::{Flow, Line, Parity, open_line};
use super::told::{Part, Told};
use super::{Field, Input, Progress};
use crate::clock::Mono;
use crate::config::json::{Object, quoted};
use crate::config::path;
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;

/// Words of a configuration.
const PARITIES: [(&str, Parity); 3] = [
    ("none", Parity::None),
    ("even", Parity::Even),
    ("odd", Parity::Odd),
];
const FLOWS: [(&str, Flow); 3] = [
    ("none", Flow::None),
    ("hardware", Flow::Hardware),
    ("software", Flow::Software),
];

/// Which line, and how it is set.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    line: Line,
}

impl Part for Place {
    fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let path = path(&object.required("path")?, resolver)?;
        let baud = object.take_set("baud");
        let data = object.take_set("dataBits");
        let parity = object.take_set("parity");
        let stop = object.take_set("stopBits");
        let flow = object.take_set("flowControl");
        let line = Line {
            baud: baud.map_or(Ok(115_200), |node| node.number32(50..=4_000_000))?,
            data_bits: data.map_or(Ok(8), |node| node.number32(7..=8))?,
            parity: parity.map_or(Ok(Parity::None), |node| node.word(&PARITIES))?,
            stop_bits: stop.map_or(Ok(1), |node| node.number32(1..=2))?,
            flow: flow.map_or(Ok(Flow::None), |node| node.word(&FLOWS))?,
        };
        Ok(Self { path, line })
    }

    fn to_json(&self) -> Vec<Field> {
        let Self { path, line } = self;
        let parity = PARITIES.iter().find(|(_, parity)| *parity == line.parity);
        let flow = FLOWS.iter().find(|(_, flow)| *flow == line.flow);
        vec![
            ("path", brace(&path.to_string_lossy())),
            ("baud", line.baud.to_string()),
            ("dataBits", line.data_bits.to_string()),
            ("parity", quoted(parity.map_or("none", |parity| parity.0))),
            ("stopBits", line.stop_bits.to_string()),
            ("flowControl", quoted(flow.map_or("none", |flow| flow.0))),
        ]
    }
}

/// What the input is told.
type Options = Told<Place, Framing>;

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Options::read(object, resolver)
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let mut feed = Feed::new("serial", &self.feed, stream, progress, Patience::Waits);
        let path = self.place.path.display().to_string();
        loop {
            let mut cutter = Cutter::new(self.how, feed.len_max());
            let read = open_line(&self.place.path, &self.place.line).and_then(|mut line| {
                feed.works(&path);
                read_until(&mut line, &path, &mut cutter, &mut feed, Mono::NEVER, false)
            });
            let error = match read {
                Ok(Why::Stop) => return,
                Ok(Why::Senseless) => {
                    io::Error::new(ErrorKind::InvalidData, "what comes is no frames")
                }
                Ok(_) => io::Error::new(ErrorKind::UnexpectedEof, "the line has gone"),
                Err(error) => error,
            };
            if !feed.wait_to_retry(&format!("{path}: {error}")) {
                return;
            }
        }
    }
}
