//! This machine's own telemetry: processor, memory, load, disks, network and temperature, read from
//! `/proc` and `/sys`, as JSON records at a set rate.
//!
//! A round reads everything once and appends a record for each number; rounds follow each other so that
//! the rate comes out. Counters (bytes, operations) are given as the kernel has them: rising since the boot.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Field, Input, Progress};
use crate::clock::{Clock, System};
use crate::config::json::Object;
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::{Code, Result};
use crate::record::Record;
use crate::storage::{File, Real, Storage};
use crate::watermark::seam::park;

#[cfg(feature = "input-hardware")]
mod hardware;

#[cfg(feature = "input-hardware")]
use hardware::Hardware;

/// The most bytes that are read of one file.
const FILE_SIZE_MAX: usize = 64 * 1024;
/// The most thermal zones and sensors that are looked for.
const SENSORS_MAX: u32 = 32;

/// What the input is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Records per second, over all numbers.
    pub rate: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: 10 }
    }
}

impl Options {
    fn read(object: &mut Object<'_>) -> Result<Self> {
        let default = Self::default().rate;
        let rate = object.take_set("ratePerSecond");
        let rate = rate.map_or(Ok(default), |node| node.number32(1..=100_000))?;
        Ok(Self { rate })
    }
}

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, _: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Ok(Arc::new(Options::read(object)?))
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        vec![("ratePerSecond", self.rate.to_string())]
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        run_with(self, stream, progress, |stream, record| {
            stream.append_record(record)
        });
    }
}

/// Appends rounds until it is told to stop. A record for which there is no room is counted and lost: the
/// next round has newer numbers.
pub fn run_with(
    options: &Options,
    stream: &Stream,
    progress: &Progress,
    mut append: impl FnMut(&Stream, &Record<'_>) -> Result<u64>,
) {
    let clock = System::new();
    let mut host = Host::new();
    let mut due = clock.mono();
    let mut payload = String::new();
    while !progress.is_stopping() {
        let mut count = 0u32;
        let mut is_open = true;
        host.round(|metric| {
            metric.write_to(&mut payload);
            let record = Record::new(metric.name.as_bytes(), clock.wall_ms(), payload.as_bytes());
            progress.receive();
            match append(stream, &record) {
                Ok(_) => Progress::count(&progress.records),
                Err(error) if matches!(error.code(), Code::Closed | Code::Panic) => is_open = false,
                Err(_) => {
                    progress.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            count += 1;
        });
        if !is_open {
            break;
        }
        due = due.plus(Duration::from_secs(1) * count.max(1) / options.rate);
        let mut now = clock.mono();
        // If it cannot keep up, what was missed is not made up for.
        due = due.max(now);
        while due > now && !progress.is_stopping() {
            park(Some(due.since(now)));
            now = clock.mono();
        }
    }
}

/// One number.
#[derive(Debug)]
pub struct Metric<'a> {
    /// What it is, which is also the record's key.
    pub name: &'a str,
    /// Of which device, if there are several.
    pub device: Option<&'a str>,
    /// The number. One that is not finite is not known.
    pub value: f64,
    /// Its unit.
    pub unit: &'a str,
}

impl Metric<'_> {
    /// Writes it as a JSON object.
    fn write_to(&self, out: &mut String) {
        out.clear();
        let _ = write!(out, "{{\"metric\":\"{}\"", self.name);
        if let Some(device) = self.device {
            // Names of devices come from the kernel; what is not plain is left out.
            let plain = |c: &char| c.is_ascii_alphanumeric() || "._-:".contains(*c);
            out.push_str(",\"device\":\"");
            out.extend(device.chars().filter(plain));
            out.push('"');
        }
        let unit = self.unit;
        let _ = match self.value {
            // A sum of whole numbers stays one.
            value if value.is_finite() => write!(out, ",\"value\":{value},\"unit\":\"{unit}\"}}"),
            _ => write!(out, ",\"value\":null,\"unit\":\"{unit}\"}}"),
        };
    }
}

/// The files that are read, kept open.
struct Host {
    text: Vec<u8>,
    stat: Option<Arc<dyn File>>,
    memory: Option<Arc<dyn File>>,
    load: Option<Arc<dyn File>>,
    disks: Option<Arc<dyn File>>,
    network: Option<Arc<dyn File>>,
    sensors: Vec<(String, Arc<dyn File>)>,
    #[cfg(feature = "input-hardware")]
    hardware: Hardware,
    /// Busy and all ticks of the processors at the last round.
    ticks: [u64; 4],
}

impl Host {
    fn new() -> Self {
        let proc = Path::new("/proc");
        let mut sensors = Vec::new();
        for zone in 0..SENSORS_MAX {
            let dir = format!("/sys/class/thermal/thermal_zone{zone}");
            sensors.extend(open(Path::new(&dir), "temp").map(|file| (format!("zone{zone}"), file)));
        }
        for sensor in 0..SENSORS_MAX {
            let dir = format!("/sys/class/hwmon/hwmon{sensor}");
            sensors.extend(
                open(Path::new(&dir), "temp1_input").map(|file| (format!("hwmon{sensor}"), file)),
            );
        }
        Self {
            text: vec![0; FILE_SIZE_MAX],
            #[cfg(feature = "input-hardware")]
            hardware: Hardware::new(Path::new("/")),
            stat: open(proc, "stat"),
            memory: open(proc, "meminfo"),
            load: open(proc, "loadavg"),
            disks: open(proc, "diskstats"),
            network: open(&proc.join("net"), "dev"),
            sensors,
            ticks: [0; 4],
        }
    }

    /// Reads everything once and hands each number on. What the system does not have is left out.
    fn round(&mut self, mut metric: impl FnMut(&Metric<'_>)) {
        let mut plain = |name, value, unit| {
            metric(&Metric {
                name,
                device: None,
                value,
                unit,
            });
        };
        let Self { text, ticks, .. } = self;
        if let Some(text) = read_file(text, self.stat.as_ref()) {
            processor(text, ticks, &mut plain);
        }
        if let Some(text) = read_file(&mut self.text, self.memory.as_ref()) {
            memory(text, &mut plain);
        }
        if let Some(text) = read_file(&mut self.text, self.load.as_ref()) {
            let mut loads = text.split(' ').map_while(|word| word.parse().ok());
            for name in ["load.1m", "load.5m", "load.15m"] {
                if let Some(load) = loads.next() {
                    plain(name, load, "1");
                }
            }
        }
        if let Some(text) = read_file(&mut self.text, self.disks.as_ref()) {
            disks(text, &mut metric);
        }
        if let Some(text) = read_file(&mut self.text, self.network.as_ref()) {
            network(text, &mut metric);
        }
        #[cfg(feature = "input-hardware")]
        self.hardware.round(&mut self.text, &mut metric);
        for (name, file) in &self.sensors {
            let millis =
                read_file(&mut self.text, Some(file)).and_then(|text| text.trim().parse().ok());
            let millis: Option<f64> = millis;
            if let Some(millis) = millis {
                let (device, value) = (Some(name.as_str()), millis / 1000.0);
                metric(&Metric {
                    name: "temperature",
                    device,
                    value,
                    unit: "celsius",
                });
            }
        }
    }
}

/// A file that is there.
fn open(dir: &Path, name: &str) -> Option<Arc<dyn File>> {
    Real.open_dir(dir, false).ok()?.open_to_read(name).ok()
}

fn read_file<'a>(buf: &'a mut [u8], file: Option<&Arc<dyn File>>) -> Option<&'a str> {
    let len = file?.read_at(buf, 0).ok()?;
    std::str::from_utf8(&buf[..len]).ok()
}

/// Shares of the processors' time since the last round, in percent.
fn processor(
    text: &str,
    last: &mut [u64; 4],
    metric: &mut impl FnMut(&'static str, f64, &'static str),
) {
    let Some(line) = text.lines().find(|line| line.starts_with("cpu ")) else {
        return;
    };
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|t| t.parse().ok())
        .collect();
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
    // user and nice, system with interrupts, waiting for disks, all.
    let all: u64 = ticks.iter().take(8).sum();
    let now = [at(0) + at(1), at(2) + at(5) + at(6), at(4), all];
    let total = now[3].saturating_sub(last[3]).max(1);
    for (index, name) in ["cpu.user", "cpu.system", "cpu.iowait"]
        .into_iter()
        .enumerate()
    {
        let share = now[index].saturating_sub(last[index]);
        metric(name, ratio(share, total) * 100.0, "percent");
    }
    *last = now;
    for (field, name) in [
        ("ctxt ", "cpu.switches"),
        ("processes ", "processes.started"),
    ] {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.trim().parse().ok());
        if let Some(value) = value {
            metric(name, value, "1");
        }
    }
}

#[allow(clippy::cast_precision_loss)] // a share of a second's ticks
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn memory(text: &str, metric: &mut impl FnMut(&'static str, f64, &'static str)) {
    let fields = [
        ("MemTotal:", "memory.total"),
        ("MemFree:", "memory.free"),
        ("MemAvailable:", "memory.available"),
        ("Cached:", "memory.cached"),
        ("Dirty:", "memory.dirty"),
        ("Writeback:", "memory.writeback"),
        ("SwapFree:", "memory.swapFree"),
    ];
    for (field, name) in fields {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        if let Some(kib) = kib {
            metric(name, kib * 1024.0, "bytes");
        }
    }
}

fn disks(text: &str, metric: &mut impl FnMut(&Metric<'_>)) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse::<f64>().ok());
        let Some(name) = words.get(2).filter(|name| !name.starts_with("loop")) else {
            continue;
        };
        let device = Some(*name);
        let fields = [
            ("disk.reads", 3, 1.0, "1"),
            ("disk.read", 5, 512.0, "bytes"),
            ("disk.writes", 7, 1.0, "1"),
            ("disk.written", 9, 512.0, "bytes"),
            ("disk.busy", 12, 1.0, "milliseconds"),
        ];
        for (name, index, factor, unit) in fields {
            if let Some(value) = number(index) {
                metric(&Metric {
                    name,
                    device,
                    value: value * factor,
                    unit,
                });
            }
        }
    }
}

fn network(text: &str, metric: &mut impl FnMut(&Metric<'_>)) {
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<f64> = rest
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let device = Some(name.trim());
        let fields = [
            ("network.received", 0, "bytes"),
            ("network.receiveErrors", 2, "1"),
            ("network.sent", 8, "bytes"),
            ("network.sendErrors", 10, "1"),
        ];
        for (name, index, unit) in fields {
            if let Some(value) = numbers.get(index) {
                metric(&Metric {
                    name,
                    device,
                    value: *value,
                    unit,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(f: impl FnOnce(&mut dyn FnMut(&Metric<'_>))) -> Vec<String> {
        let mut lines = Vec::new();
        let mut text = String::new();
        f(&mut |metric| {
            metric.write_to(&mut text);
            lines.push(text.clone());
        });
        lines
    }

    #[test]
    fn shares_of_the_processor_are_of_the_time_since_the_last_round() {
        let mut last = [0; 4];
        let mut seen = Vec::new();
        for text in [
            "cpu  100 0 50 850 0 0 0 0 0 0\nctxt 7\n",
            "cpu  150 0 75 925 0 0 0 0\nctxt 9",
        ] {
            seen.clear();
            processor(text, &mut last, &mut |name, value, _| {
                seen.push((name, value));
            });
        }
        let expected = [
            ("cpu.user", 100.0 / 3.0),
            ("cpu.system", 50.0 / 3.0),
            ("cpu.iowait", 0.0),
        ];
        for ((name, value), (expected_name, expected)) in seen.iter().zip(expected) {
            assert_eq!(*name, expected_name);
            assert!((value - expected).abs() < 1e-9);
        }
        assert_eq!(seen[3], ("cpu.switches", 9.0));
    }

    #[test]
    fn disks_and_interfaces_are_named() {
        let text = " 179 0 mmcblk0 12 0 80 5 34 0 160 9 0 77 0\n 7 0 loop0 1 2 3\n";
        let lines = collect(|metric| disks(text, &mut |m| metric(m)));
        assert_eq!(lines.len(), 5);
        assert_eq!(
            lines[3],
            r#"{"metric":"disk.written","device":"mmcblk0","value":81920,"unit":"bytes"}"#
        );
        let text = "Inter-| x\n face |y\n  eth0: 1 2 3 4 5 6 7 8 9 10 11\n";
        let lines = collect(|metric| network(text, &mut |m| metric(m)));
        assert_eq!(
            lines[2],
            r#"{"metric":"network.sent","device":"eth0","value":9,"unit":"bytes"}"#
        );
    }

    /// On this machine, whatever it is: a round gives numbers, and each is JSON.
    #[test]
    fn a_real_round_is_json() {
        let mut host = Host::new();
        let mut count = 0;
        let mut text = String::new();
        host.round(|metric| {
            metric.write_to(&mut text);
            let node = crate::config::json::parse(&text).unwrap();
            assert!(node.object().unwrap().take("value").is_some());
            count += 1;
        });
        assert!(count > 10, "{count}");
    }
}
