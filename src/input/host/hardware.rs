//! What wears out, what is throttled, and how good links are, as far as the kernel shows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Metric, SENSORS_MAX, open, read_file};
use crate::storage::{File, names_in};

/// What a disk's wear is when nobody knows it.
const UNKNOWN: f64 = f64::NAN;

/// A number of a device, and where it comes from.
struct Gauge {
    name: &'static str,
    device: String,
    unit: &'static str,
    /// `None`: the kernel does not show it.
    file: Option<Arc<dyn File>>,
    value: fn(&str) -> Option<f64>,
}

/// The files that are read, kept open.
pub struct Hardware {
    gauges: Vec<Gauge>,
    /// How far each cooling device is, and how far it can be.
    cooling: Vec<(String, Arc<dyn File>, f64)>,
    /// How often each processor was throttled.
    throttled: Vec<Arc<dyn File>>,
    wireless: Option<Arc<dyn File>>,
}

impl Hardware {
    /// What is there below `root`.
    pub fn new(root: &Path) -> Self {
        let mut gauges = Vec::new();
        disks(&root.join("sys/block"), &mut gauges);
        network(&root.join("sys/class/net"), &mut gauges);
        let firmware = root.join("sys/devices/platform/soc/soc:firmware");
        if let Some(file) = open(&firmware, "get_throttled") {
            gauges.push(Gauge {
                name: "board.throttled",
                device: "firmware".to_owned(),
                unit: "1",
                file: Some(file),
                // The lowest four: voltage, a bound of the clock, throttled, a bound of temperature.
                value: |text| hex(text).map(|bits| f64::from(u8::from(bits & 0xf != 0))),
            });
        }
        let thermal = root.join("sys/class/thermal");
        let mut cooling = Vec::new();
        for (dir, _) in children(&thermal, "cooling_device") {
            let max = open(&dir, "max_state").and_then(|file| number_in(&file));
            let kind = open(&dir, "type").and_then(|file| text_in(&file));
            if let (Some(state), Some(max)) =
                (open(&dir, "cur_state"), max.filter(|max| *max > 0.0))
            {
                cooling.push((kind.unwrap_or_default(), state, max));
            }
        }
        let cpus = children(&root.join("sys/devices/system/cpu"), "cpu").into_iter();
        let throttled =
            cpus.filter_map(|(dir, _)| open(&dir.join("thermal_throttle"), "core_throttle_count"));
        Self {
            gauges,
            cooling,
            throttled: throttled.collect(),
            wireless: open(&root.join("proc/net"), "wireless"),
        }
    }

    /// Reads everything once and hands each number on.
    pub fn round(&self, buf: &mut [u8], metric: &mut impl FnMut(&Metric<'_>)) {
        for gauge in &self.gauges {
            let value = match &gauge.file {
                Some(file) => {
                    read_file(buf, Some(file)).and_then(|text| (gauge.value)(text.trim()))
                }
                None => Some(UNKNOWN),
            };
            if let Some(value) = value {
                metric(&Metric {
                    name: gauge.name,
                    device: Some(&gauge.device),
                    value,
                    unit: gauge.unit,
                });
            }
        }
        for (device, state, max) in &self.cooling {
            if let Some(state) = number_in(state) {
                metric(&Metric {
                    name: "cooling",
                    device: Some(device),
                    value: state / max * 100.0,
                    unit: "percent",
                });
            }
        }
        if !self.throttled.is_empty() {
            metric(&Metric {
                name: "cpu.throttles",
                device: None,
                value: self.throttled.iter().filter_map(number_in).sum(),
                unit: "1",
            });
        }
        if let Some(text) = read_file(buf, self.wireless.as_ref()) {
            wireless(text, metric);
        }
    }
}

/// At most so many entries of a directory whose names begin so, each with the rest of its name.
fn children(dir: &Path, begin: &str) -> Vec<(PathBuf, String)> {
    let mut names = names_in(dir).unwrap_or_default();
    names.sort();
    let names = names.into_iter().filter_map(|name| {
        let rest = name.strip_prefix(begin)?.to_owned();
        // Of `cpu` there are `cpufreq` and `cpuidle`, too.
        let is_device = begin.is_empty() || rest.chars().all(|c| c.is_ascii_digit());
        is_device.then(|| (dir.join(&name), rest))
    });
    names.take(SENSORS_MAX as usize).collect()
}

fn text_in(file: &Arc<dyn File>) -> Option<String> {
    let mut buf = [0; 128];
    read_file(&mut buf, Some(file)).map(|text| text.trim().to_owned())
}

fn number_in(file: &Arc<dyn File>) -> Option<f64> {
    text_in(file)?.parse().ok()
}

fn hex(word: &str) -> Option<u32> {
    u32::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
}

/// How much of its life a disk has used: of eMMC the kernel says it, in tenths.
fn disks(dir: &Path, gauges: &mut Vec<Gauge>) {
    for (dir, name) in children(dir, "") {
        let device = dir.join("device");
        // What has no device is made of others; the small parts of an eMMC wear with it.
        if names_in(&device).is_err() || name.contains("boot") || name.contains("rpmb") {
            continue;
        }
        gauges.push(Gauge {
            name: "disk.wear",
            device: name.clone(),
            unit: "percent",
            file: open(&device, "life_time"),
            value: |text| {
                let used = text.split_whitespace().filter_map(hex).max();
                let used = used.filter(|used| (1..=11).contains(used));
                Some(used.map_or(UNKNOWN, |used| f64::from(used) * 10.0))
            },
        });
        if let Some(file) = open(&device, "pre_eol_info") {
            gauges.push(Gauge {
                name: "disk.endOfLife",
                device: name,
                unit: "1",
                file: Some(file),
                value: |text| hex(text).filter(|state| *state > 0).map(f64::from),
            });
        }
    }
}

fn network(dir: &Path, gauges: &mut Vec<Gauge>) {
    for (dir, name) in children(dir, "") {
        let files = [
            ("network.up", "carrier"),
            ("network.linkChanges", "carrier_changes"),
        ];
        for (metric, file) in files.into_iter().filter(|_| name != "lo") {
            gauges.extend(open(&dir, file).map(|file| Gauge {
                name: metric,
                device: name.clone(),
                unit: "1",
                file: Some(file),
                value: |text| text.parse().ok(),
            }));
        }
    }
}

/// The kernel's table of wireless links: quality and signal behind the interface and its state.
fn wireless(text: &str, metric: &mut impl FnMut(&Metric<'_>)) {
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let mut numbers = rest.split_whitespace().skip(1);
        for (metric_name, unit) in [("network.quality", "1"), ("network.signal", "dBm")] {
            let word = numbers.next().map(|word| word.trim_end_matches('.'));
            if let Some(value) = word.and_then(|word| word.parse().ok()) {
                metric(&Metric {
                    name: metric_name,
                    device: Some(name.trim()),
                    value,
                    unit,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as boards show them: an eMMC, an SD card, a disk, a processor that is throttled, and links.
    const TREE: [(&str, &str); 24] = [
        ("sys/block/mmcblk0/device/life_time", "0x02 0x05\n"),
        ("sys/block/mmcblk0/device/pre_eol_info", "0x01\n"),
        ("sys/block/mmcblk0boot0/device/life_time", "0x02 0x05\n"),
        ("sys/block/mmcblk1/device/cid", "27504853\n"),
        ("sys/block/mmcblk2/device/life_time", "0x00 0x00\n"),
        ("sys/block/mmcblk3/device/life_time", "0x0b 0x01\n"),
        ("sys/block/sda/device/model", "Flash Disk\n"),
        ("sys/block/loop0/size", "0\n"),
        ("sys/class/net/eth0/carrier", "1\n"),
        ("sys/class/net/eth0/carrier_changes", "7\n"),
        ("sys/class/net/lo/carrier", "1\n"),
        ("sys/class/thermal/cooling_device0/type", "Processor\n"),
        ("sys/class/thermal/cooling_device0/cur_state", "3\n"),
        ("sys/class/thermal/cooling_device0/max_state", "4\n"),
        ("sys/class/thermal/cooling_device1/type", "none\n"),
        ("sys/class/thermal/cooling_device1/cur_state", "0\n"),
        ("sys/class/thermal/cooling_device1/max_state", "0\n"),
        (
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
            "5\n",
        ),
        (
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count",
            "6\n",
        ),
        ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
        (
            "sys/devices/platform/soc/soc:firmware/get_throttled",
            "50005\n",
        ),
        (
            "proc/net/wireless",
            "Inter-| sta-|   Quality        |   Discarded packets\n face | tus | link level noise |\n \
             wlan0: 0000   54.  -56.  -256        0      0      0\n",
        ),
        ("sys/class/net/wlan0/carrier", "0\n"),
        ("sys/class/net/wlan0/speed", "-1\n"),
    ];

    #[test]
    fn wear_throttling_and_links_are_told_as_far_as_the_kernel_shows_them() {
        let root = std::env::temp_dir().join(format!("forebay-{}-hardware", std::process::id()));
        for (path, text) in TREE {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let hardware = Hardware::new(&root);
        let mut lines = Vec::new();
        let mut text = String::new();
        hardware.round(&mut [0; 4096], &mut |metric| {
            metric.write_to(&mut text);
            crate::config::json::parse(&text).unwrap();
            lines.push(text.replace("\"metric\":", "").replace("\"device\":", ""));
        });
        let expected = [
            r#"{"disk.wear","mmcblk0","value":50,"unit":"percent"}"#,
            r#"{"disk.endOfLife","mmcblk0","value":1,"unit":"1"}"#,
            r#"{"disk.wear","mmcblk1","value":null,"unit":"percent"}"#,
            r#"{"disk.wear","mmcblk2","value":null,"unit":"percent"}"#,
            r#"{"disk.wear","mmcblk3","value":110,"unit":"percent"}"#,
            r#"{"disk.wear","sda","value":null,"unit":"percent"}"#,
            r#"{"network.up","eth0","value":1,"unit":"1"}"#,
            r#"{"network.linkChanges","eth0","value":7,"unit":"1"}"#,
            r#"{"network.up","wlan0","value":0,"unit":"1"}"#,
            r#"{"board.throttled","firmware","value":1,"unit":"1"}"#,
            r#"{"cooling","Processor","value":75,"unit":"percent"}"#,
            r#"{"cpu.throttles","value":11,"unit":"1"}"#,
            r#"{"network.quality","wlan0","value":54,"unit":"1"}"#,
            r#"{"network.signal","wlan0","value":-56,"unit":"dBm"}"#,
        ];
        assert_eq!(lines, expected);
        std::fs::remove_dir_all(&root).unwrap();
        // Where there is nothing, nothing is told.
        Hardware::new(&root).round(&mut [0; 4096], &mut |metric| panic!("{}", metric.name));
    }
}
