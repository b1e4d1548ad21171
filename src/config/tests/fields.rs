//! Every field with what is wrong for it, and the whole text of the error.

use std::collections::BTreeSet;

use super::*;

/// Place, key, value, and the rule that the value breaks. A field without a row here is an error.
const BAD: &str = r#"
document | streams | 5 | must be an array
document | streaming | 5 | must be an object
document | streaming | [] | must be an object
document | dataDir | 5 | must be a string
document | dataDir | "" | must be a path
document | dataDir | "a\u0000b" | must be a path
document | dataDir | "/data/{Thing}" | {Thing}: neither in "vars" nor ThingName, ComponentName, Hostname or env:NAME
document | dataDir | {"x":1} | must be a string
document | runDir | "/run/}" | "}" has no counterpart: a template is {Name}, and a brace itself is written twice
document | runDir | [] | must be a string
document | runDir | "" | must be a path
document | inputs | {} | must be an array
document | eventsStream | 5 | must be a string
document | eventsStream | "nobody" | must be the name of one of the streams
document | eventsStream | "a b" | must be 1 to 249 letters, digits, dots, underscores and hyphens
document | service | [] | must be an object
service | shutdownMs | 99 | must be 100..=86400000
service | shutdownMs | "10s" | must be 100..=86400000
service | stalledSecs | 0 | must be 1..=86400
service | stalledSecs | 86401 | must be 1..=86400
service | log | "json" | must be an object
service | events | "/bin/true" | must be an object
service | http | [] | must be an object
service | metrics | "m.prom" | must be an object
events | command | "/bin/true" | must be an array
events | command | [] | must name a program
events | perMinute | 0 | must be 1..=600
events | timeoutMs | 99 | must be 100..=86400000
http | listen | 9464 | must be a string
http | listen | "" | must be a path
http | listen | "localhost" | must be an address with a port, or unix: and a path
http | listen | "unix:" | must be an address with a port, or unix: and a path
http | token | 5 | must be a string
http | token | "short" | must have at least 16 bytes
metrics | path | "" | must be a path
metrics | intervalMs | 99 | must be 100..=86400000
log | format | "xml" | must be "text" or "json"
log | perMinute | 0 | must be 1..=1000000
log | perMinute | 1000001 | must be 1..=1000000
document | secretsDir | 5 | must be a string
document | secretsDir | "" | must be a path without templates
document | secretsDir | "/etc/{Hostname}" | must be a path without templates
document | secretsDir | {"$secret":"x"} | secrets may stand in sinks and in "vars" only
document | vars | 5 | must be an object
document | vars | ["a"] | must be an object
stream | name | 5 | must be a string
stream | name | null | must be a string
stream | name | "" | must be 1 to 249 letters, digits, dots, underscores and hyphens
stream | name | "a/b" | must be 1 to 249 letters, digits, dots, underscores and hyphens
stream | name | "ä" | must be 1 to 249 letters, digits, dots, underscores and hyphens
stream | name | ".." | must be 1 to 249 letters, digits, dots, underscores and hyphens
stream | name | "{ThingName}" | must be 1 to 249 letters, digits, dots, underscores and hyphens
stream | sink | 5 | must be an object
stream | sink | [] | must be an object
stream | sinks | {} | must be an array
stream | buffer | 5 | must be an object
stream | batch | [] | must be an object
stream | delivery | "x" | must be an object
stream | deadLetters | 16777216 | must be an object
buffer | type | "tape" | must be "disk" or "memory"
buffer | type | 5 | must be "disk" or "memory"
buffer | path | 5 | must be a string
buffer | path | "" | must be a path
buffer | path | "/data/{ComponentName}" | {ComponentName}: nothing knows it but "vars", where it is missing
buffer | path | "/data/{ThingName" | "{" has no counterpart: a template is {Name}, and a brace itself is written twice
buffer | segmentBytes | 65535 | must be 65536..=1073741824
buffer | segmentBytes | 1073741825 | must be 65536..=1073741824
buffer | segmentBytes | 65536.5 | must be 65536..=1073741824
buffer | segmentBytes | "64M" | must be 65536..=1073741824
buffer | segmentBytes | -65536 | must be 65536..=1073741824
buffer | segmentBytes | 1e999 | must be 65536..=1073741824
buffer | segmentBytes | 99999999999999999999999 | must be 65536..=1073741824
buffer | maxDiskBytes | 8388607 | must be 8388608..=70368744177664
buffer | maxDiskBytes | 70368744177665 | must be 8388608..=70368744177664
buffer | maxAgeSecs | 0 | must be 1..=3162240000
buffer | maxAgeSecs | 3162240001 | must be 1..=3162240000
buffer | maxAgeSecs | "1d" | must be 1..=3162240000
buffer | onFull | "dropNewest" | must be "dropOldest" or "block" or "rejectNew"
buffer | blockTimeoutMs | 0 | must be 1..=86400000
buffer | blockTimeoutMs | 86400001 | must be 1..=86400000
buffer | blockTimeoutMs | "1s" | must be 1..=86400000
buffer | fsync | "never" | must be "always" or "perBatch" or "interval"
buffer | fsync | true | must be "always" or "perBatch" or "interval"
buffer | fsyncIntervalMs | 0 | must be 1..=86400000
buffer | fsyncIntervalMs | 500.5 | must be 1..=86400000
buffer | syncTimeoutMs | 0 | must be 1..=86400000
buffer | syncTimeoutMs | 86400001 | must be 1..=86400000
buffer | ring | "public" | must be "private" or "shared"
buffer | checkpointMs | 9 | must be 10..=86400000
buffer | checkpointMs | "5s" | must be 10..=86400000
buffer | io | "direct" | must be "auto" or "mmap" or "write"
buffer | maxBufferedRecords | 1 | must be 2..=33554432
buffer | maxBufferedRecords | 33554433 | must be 2..=33554432
buffer | maxBufferedBytes | 4095 | must be 4096..=1073741824
buffer | maxBufferedBytes | 1073741825 | must be 4096..=1073741824
buffer | maxRecordBytes | 0 | must be 1..=1048576
buffer | maxRecordBytes | 1048577 | must be 1..=1048576
buffer | reserve | "half" | must be "none" or "all"
buffer | reserve | true | must be "none" or "all"
buffer | minFreeBytes | -1 | must be 0..=70368744177664
buffer | minFreeBytes | 70368744177665 | must be 0..=70368744177664
buffer | maxDamagedBytes | -1 | must be 0..=70368744177664
buffer | maxDamagedBytes | 70368744177665 | must be 0..=70368744177664
buffer | volatile | "ignore" | must be "allow" or "warn" or "refuse"
buffer | strict | "yes" | must be true or false
buffer | strict | 1 | must be true or false
batch | maxRecords | 0 | must be 1..=100000
batch | maxRecords | 500.5 | must be 1..=100000
batch | maxBytes | 0 | must be 1..=67108864
batch | maxBytes | 67108865 | must be 1..=67108864
batch | maxLatencyMs | -1 | must be 0..=86400000
batch | maxLatencyMs | 86400001 | must be 0..=86400000
batch | compression | "gzip" | must be "none" or "zstd"
batch | compression | "zstd" | has a place only where all sinks are of type kinesis with "aggregation": "kpl"
delivery | maxRetries | -2 | must be -1 or 0..=4294967295
delivery | maxRetries | -1.5 | must be -1 or 0..=4294967295
delivery | maxRetries | "all" | must be -1 or 0..=4294967295
delivery | maxRetries | 4294967296 | must be -1 or 0..=4294967295
delivery | backoffBaseMs | 0 | must be 1..=86400000
delivery | backoffMaxMs | 49 | must be 50..=86400000
delivery | pollIntervalMs | 0 | must be 1..=86400000
delivery | ordering | "key" | must be "stream" or "perKey" or "none"
delivery | maxInFlight | 0 | must be 1..=8
delivery | maxInFlight | 9 | must be 1..=8
deadLetters | maxBytes | 8392703 | must be 8392704..=70368744177664
deadLetters | maxBytes | "16M" | must be 8392704..=70368744177664
sink | type | 5 | must be "none" or "callback" or "file" or "stdout" or "kinesis" or "kafka"
sink | type | "redis" | must be "none" or "callback" or "file" or "stdout" or "kinesis" or "kafka"
sink | type | "kafka" | this build does not have the feature "kafka"
sink | type | "kinesis" | this build does not have the feature "kinesis"
sink | name | "" | must be 1 to 64 letters, digits, dots, underscores and hyphens
sink | name | "a b" | must be 1 to 64 letters, digits, dots, underscores and hyphens
sink | name | 5 | must be a string
sink | startAt | "now" | must be "oldest" or "newest"
sink | timestamps | "now" | must be "asIs" or "rebase"
sink | required | 1 | must be true or false
file | path | null | must be a string
file | path | "" | must be a path
file | path | "/" | must be the path of a file
file | path | "out/.." | must be the path of a file
file | path | "{env:}/x" | {env:}: not in the environment, or empty there
file | format | "csv" | must be "ndjson" or "raw"
file | maxFileBytes | -1 | must be 0..=1099511627776
file | maxFileBytes | 1099511627777 | must be 0..=1099511627776
file | rollEverySecs | 31622401 | must be 0..=31622400
file | maxFiles | 1000001 | must be 0..=1000000
file | fsync | "{x}" | {x}: neither in "vars" nor ThingName, ComponentName, Hostname or env:NAME
file | fsync | "always" | must be "perBatch" or "never"
stdout | format | "text" | must be "ndjson" or "raw"
callback | id | 5 | must be a string
callback | id | "{thingName}" | {thingName}: neither in "vars" nor ThingName, ComponentName, Hostname or env:NAME
callback | id | "a{" | "{" has no counterpart: a template is {Name}, and a brace itself is written twice
kinesis | streamName | 5 | must be a string
kinesis | streamName | "" | must be 1 to 128 letters, digits, dots, underscores and hyphens
kinesis | streamName | "a/b" | must be 1 to 128 letters, digits, dots, underscores and hyphens
kinesis | region | "eu west" | must be a region, as in "eu-west-1"
kinesis | region | "" | must be a region, as in "eu-west-1"
kinesis | endpointUrl | "kinesis.local" | must be an address: http://host or https://host
kinesis | endpointUrl | "ftp://kinesis.local/" | must be an address: http://host or https://host
kinesis | endpointUrl | "https://me@kinesis.local/" | must be an address: http://host or https://host
kinesis | credentials | "static" | must be an object
kinesis | encoding | "xml" | must be "json" or "cbor"
kinesis | aggregation | "zip" | must be "none" or "kpl"
kinesis | aggregationGroups | 0 | must be 1..=1024
kinesis | envelope | "yes" | must be true or false
kinesis | device | "" | must be 1 to 256 bytes of text
kinesis | caFile | "" | must be a path
kinesis | proxy | "proxy" | must be an address: http://host:port
kinesis | requestTimeoutMs | 0 | must be 1..=86400000
kinesis | connectTimeoutMs | "1s" | must be 1..=86400000
kinesis | maxRequestRecords | 0 | must be 1..=10000
kinesis | maxRequestBytes | 67108865 | must be 1..=67108864
kinesis | maxRecordBytes | 10485761 | must be 1..=10485760
kinesis | maxShardRecordsPerSec | 0 | must be 1..=1000000
kinesis | maxShardBytesPerSec | 1073741825 | must be 1..=1073741824
credentials | type | "{x}" | {x}: neither in "vars" nor ThingName, ComponentName, Hostname or env:NAME
static | accessKeyId | "" | must be one line of text
static | secretAccessKey | 5 | must be a string
static | sessionToken | "a\nb" | must be one line of text
profile | profile | "" | must be one line of text
profile | file | "" | must be a path
iot | endpoint | "c.example/x" | must be the name of a host
iot | roleAlias | "a b" | must be 1 to 128 of letters, digits and _=,@-
iot | thingName | "" | must be one line of text
iot | certificateFile | 5 | must be a string
iot | keyFile | "" | must be a path
iot | caFile | "" | must be a path
kafka | bootstrapServers | 5 | must be a string
kafka | bootstrapServers | " " | must be hosts with ports, separated by commas
kafka | topic | 5 | must be a string
kafka | topic | "a b" | must be 1 to 249 letters, digits, dots, underscores and hyphens
kafka | properties | 5 | must be an object
kafka | exactlyOnce | "yes" | must be true or false
kafka | answerTimeoutMs | 999 | must be 1000..=86400000
kafka | answerTimeoutMs | 86400001 | must be 1000..=86400000
input | type | "unixStream" | this build does not have the feature "input-unix"
input | type | "udp" | this build does not have the feature "input-udp"
input | type | "tcp" | this build does not have the feature "input-tcp"
input | type | "tail" | this build does not have the feature "input-tail"
input | type | "mqtt" | this build does not have the feature "input-mqtt"
input | type | "exec" | this build does not have the feature "input-exec"
input | type | "serial" | this build does not have the feature "input-serial"
input | stream | 5 | must be a string
stdin | key | 5 | must be a string
stdin | format | "json" | must be "lines" or "ndjson"
stdin | resume | 1 | must be true or false
stdin | follow | "yes" | must be true or false
host | ratePerSecond | 0 | must be 1..=100000
host | ratePerSecond | 100001 | must be 1..=100000
records | key | 5 | must be a string
records | key | "{x}" | {x}: neither in "vars" nor ThingName, ComponentName, Hostname or env:NAME
records | keyFrom | "topic" | must be fixed, sender or a JSON pointer, as in "/device/id"
records | keyFrom | 5 | must be a string
records | properties | "x" | must be an object
records | propertiesFrom | [] | must be an object
records | timeFrom | "ts" | must be a JSON pointer of at most 32 parts, as in "/device/id"
records | timeUnit | "hours" | must be "seconds" or "milliseconds" or "microseconds" or "nanoseconds"
records | format | "json" | must be "raw" or "ndjson"
records | maxRecordBytes | 0 | must be 1..=1048576
records | maxRecordsPerSec | 10000001 | must be 0..=10000000
records | onMalformed | "ignore" | must be "keep" or "drop"
records | onEarly | true | must be "keep" or "now" or "drop"
unixStream | path | "" | must be a path
unixStream | mode | 600 | must be a mode in octal, as in "0660"
unixStream | mode | "0999" | must be a mode in octal, as in "0660"
unixStream | allowUids | 5 | must be an array
unixStream | allowGids | {} | must be an array
unixStream | framing | "length" | must be "lines" or "frames"
unixStream | acknowledge | true | must be "never" or "asked" or "always"
unixStream | maxConnections | 1025 | must be 1..=1024
unixStream | idleTimeoutMs | 86400001 | must be 0..=86400000
unixDatagram | path | 5 | must be a string
unixDatagram | mode | "77777" | must be a mode in octal, as in "0660"
unixDatagram | allowUids | "all" | must be an array
unixDatagram | allowGids | 1 | must be an array
unixDatagram | receiveBufferBytes | 268435457 | must be 0..=268435456
udp | address | "5170" | must be host:port, as in "127.0.0.1:5170"
udp | address | "[::1]:99999" | must be host:port, as in "127.0.0.1:5170"
udp | receiveBufferBytes | "4M" | must be 0..=268435456
tcp | address | "localhost" | must be host:port, as in "127.0.0.1:5170"
tcp | framing | 5 | must be "lines" or "frames"
tcp | acknowledge | "yes" | must be "never" or "asked" or "always"
tcp | maxConnections | 0 | must be 1..=1024
tcp | idleTimeoutMs | "1s" | must be 0..=86400000
tail | path | 5 | must be a string
tail | startAt | "end" | must be "oldest" or "newest"
tail | rotateWaitMs | 3600001 | must be 0..=3600000
mqtt | address | "1883" | must be host:port, as in "127.0.0.1:5170"
mqtt | clientId | "" | must have 1 to 1024 bytes, and no zero among them
mqtt | topics | [] | must have a topic
mqtt | qos | 2 | must be 0..=1
mqtt | username | 5 | must be a string
mqtt | password | {} | must be a string
mqtt | keepAliveSecs | 4 | must be 5..=3600
mqtt | tls | true | must be an object
tls | caFile | "" | must be a path
tls | certificateFile | 5 | must be a string
tls | keyFile | "" | must be a path
exec | command | [] | must name a program
exec | intervalMs | 86400001 | must be 0..=86400000
exec | timeoutMs | "1s" | must be 0..=86400000
exec | framing | "words" | must be "lines" or "frames"
serial | path | "" | must be a path
serial | baud | 49 | must be 50..=4000000
serial | dataBits | 9 | must be 7..=8
serial | parity | "mark" | must be "none" or "even" or "odd"
serial | stopBits | 3 | must be 1..=2
serial | flowControl | true | must be "none" or "hardware" or "software"
serial | framing | 5 | must be "lines" or "frames"
"#;

/// One that is too long to be a line.
const UNKNOWN_KIND: &str = "input | type | \"syslog\" | must be \"stdin\" or \"host\" or \"unixStream\" or \
    \"unixDatagram\" or \"udp\" or \"tcp\" or \"tail\" or \"mqtt\" or \"exec\" or \"serial\"";

/// The rows of [`BAD`] that this build can show.
fn rows() -> impl Iterator<Item = [&'static str; 4]> {
    let rows = BAD.lines().chain([UNKNOWN_KIND]);
    let rows = rows.filter(|line| !line.is_empty());
    let rows = rows.map(|line| {
        let mut cells = line.splitn(4, " | ");
        [(); 4].map(|()| cells.next().expect("four cells"))
    });
    rows.filter(|[place, _, value, rule]| {
        let is_lacking = rule.starts_with("this build does not have");
        is_compiled_in(place) && !(is_lacking && is_compiled_in(value.trim_matches('"')))
    })
}

/// Place and key of every field.
pub(super) fn fields() -> BTreeSet<(&'static str, &'static str)> {
    rows().map(|[place, key, ..]| (place, key)).collect()
}

/// `G-007`, `G-013`, `G-014`, `G-058`, `L-78`: nothing that is wrong is taken for something else.
#[test]
fn a_bad_value_is_an_error_that_names_place_path_value_and_rule() {
    for [place, key, value, rule] in rows() {
        let text = document(place, key, &format!("\"{key}\":{value}"));
        let (column, path) = (key.len() + 4, path_of(place, key));
        assert_eq!(error(&text), format!("2:{column} {path} {value}: {rule}"));
    }
}

/// What the table holds is right but for the value: without it nothing is wrong.
#[test]
fn the_documents_around_the_bad_values_are_right() {
    for (place, _) in fields() {
        assert!(read(&document(place, "", "")).is_ok(), "{place}");
    }
}

#[test]
fn a_field_that_stands_twice_is_an_error_with_its_place() {
    for (place, key) in fields() {
        let text = document(place, key, &format!("\"{key}\":1,\n\"{key}\":2"));
        let path = path_of(place, key);
        assert_eq!(error(&text), format!("3:1 {path}: stands here twice"));
    }
}

/// `G-012`: a typing error never turns a setting off.
#[test]
fn an_unknown_key_is_an_error_with_its_place() {
    for (place, _) in PLACES.iter().filter(|(place, _)| is_compiled_in(place)) {
        for key in ["fsnyc", "Name", "", "$x", "ä"] {
            let text = document(place, key, &format!("\"{key}\":{{\"a\":[1]}}"));
            let path = path_of(place, key);
            assert_eq!(error(&text), format!("2:1 {path}: is not known here"));
        }
    }
}

/// A key that is known elsewhere is as unknown as any other.
#[test]
fn a_field_in_another_place_is_not_known() {
    for (place, key) in fields() {
        for (other, _) in PLACES.iter().filter(|(other, _)| is_compiled_in(other)) {
            let is_common = match *other {
                "file" | "stdout" | "callback" | "kinesis" | "kafka" => "sink",
                "static" | "profile" | "iot" => "credentials",
                "stdin" | "host" => "input",
                other if INPUTS.iter().any(|(name, _)| *name == other) => "records",
                other => other,
            };
            // The smallest input is one of these.
            let is_there = match *other {
                "input" => "stdin",
                "records" => "udp",
                other => other,
            };
            let of_all = if is_common == "records" { "input" } else { "" };
            let is_known = [*other, is_common, is_there, of_all]
                .iter()
                .any(|at| fields().contains(&(at, key)));
            if is_known {
                continue;
            }
            let text = document(other, key, &format!("\"{key}\":1"));
            let path = path_of(other, key);
            assert_eq!(
                error(&text),
                format!("2:1 {path}: is not known here"),
                "{place}"
            );
        }
    }
}

/// `G-010`, `G-011`: what need not be there may be null.
#[test]
fn null_means_the_default() {
    for (place, key) in fields() {
        let needed = matches!(
            (place, key),
            ("document", "streams")
                | ("stream", "name" | "sink" | "sinks")
                | ("file" | "metrics", "path")
                | ("events", "command")
                | ("kinesis", "streamName" | "region")
                | ("static", "accessKeyId" | "secretAccessKey")
                | (
                    "iot",
                    "endpoint" | "roleAlias" | "certificateFile" | "keyFile"
                )
                | ("kafka", "bootstrapServers" | "topic")
        ) || ["sink", "input"].contains(&place) && ["type", "stream"].contains(&key)
            || INPUTS.iter().any(|(name, needs)| {
                *name == place && needs.iter().any(|(needed, _)| *needed == key)
            });
        if !needed {
            let text = document(place, key, &format!("\"{key}\":null"));
            assert_eq!(
                meaning(&text),
                meaning(&document(place, key, "")),
                "{place}.{key}"
            );
        }
    }
}

/// Keys and words of the code, and those that the tables know: a new one needs a row here and a line in
/// `docs/configuration.md`.
#[test]
#[cfg(all(feature = "file", feature = "stdout", feature = "cli"))]
fn every_key_in_the_code_has_a_bad_value_here() {
    let mut in_code = page::words_in(include_str!("../../config.rs"));
    in_code.extend(page::words_in(include_str!("../sinks.rs")));
    in_code.extend(page::words_in(include_str!("../stream.rs")));
    in_code.extend(page::words_in(include_str!("../delivery.rs")));
    let service = include_str!("../service.rs").lines();
    let service = service.filter(|line| line.contains(".take_set(") || line.contains(".word("));
    in_code.extend(service.flat_map(page::words_in));
    #[cfg(feature = "http")]
    in_code.extend(page::words_in(include_str!("../service/outside.rs")));
    #[cfg(feature = "kinesis")]
    in_code.extend(page::words_in(include_str!("../sinks/kinesis.rs")));
    #[cfg(feature = "kafka")]
    in_code.extend(page::words_in(include_str!("../sinks/kafka.rs")));
    for source in [
        include_str!("../../input.rs"),
        include_str!("../service/hook.rs"),
        include_str!("../../input/stdin.rs"),
        include_str!("../../input/host.rs"),
        #[cfg(feature = "input-feed")]
        include_str!("../../input/feed.rs"),
        #[cfg(feature = "input-feed")]
        include_str!("../../input/fields.rs"),
        #[cfg(any(feature = "input-unix", feature = "input-tcp"))]
        include_str!("../../input/connections.rs"),
        #[cfg(any(feature = "input-unix", feature = "input-udp"))]
        include_str!("../../input/datagrams.rs"),
        #[cfg(feature = "input-unix")]
        include_str!("../../input/unix.rs"),
        #[cfg(any(feature = "input-udp", feature = "input-tcp", feature = "input-mqtt"))]
        include_str!("../../input/address.rs"),
        #[cfg(feature = "input-tail")]
        include_str!("../../input/tail.rs"),
        #[cfg(feature = "input-mqtt")]
        include_str!("../../input/mqtt.rs"),
        #[cfg(feature = "input-mqtt-tls")]
        include_str!("../../input/mqtt/security.rs"),
        #[cfg(feature = "input-exec")]
        include_str!("../../input/exec.rs"),
        #[cfg(feature = "input-serial")]
        include_str!("../../input/serial.rs"),
        #[cfg(any(feature = "input-exec", feature = "input-serial"))]
        include_str!("../../input/reader.rs"),
    ] {
        let lines = source.lines();
        let reads = lines.filter(|line| {
            [".take_set(", ".required(", ".word("]
                .iter()
                .any(|call| line.contains(call))
        });
        in_code.extend(reads.flat_map(page::words_in));
    }
    let keys: BTreeSet<_> = fields().into_iter().map(|(_, key)| key).collect();
    let mut known = page::words();
    known.extend(&keys);
    let missing: Vec<_> = in_code.difference(&known).collect();
    assert!(
        missing.is_empty(),
        "in the code, but in no table: {missing:?}"
    );
    let gone: Vec<_> = keys.difference(&in_code).collect();
    assert!(gone.is_empty(), "in a table, but not in the code: {gone:?}");
}
