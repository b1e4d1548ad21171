//! The fields of a `kinesis` sink.

use std::time::Duration;

use super::super::json::{Node, Object};
use super::super::resolve::Resolver;
use super::super::{MILLIS_MAX, Result, StreamConfig};
use crate::exporter::Ordering;
use crate::sink::kinesis::credentials::{Environment, Source, VARIABLES};
use crate::sink::kinesis::{self, Encoding, Options, check_address, check_proxy, region_of_files};
use crate::sink::text::Text;

/// The longest name of a stream at the service.
const STREAM_NAME_MAX: usize = 128;
/// The longest record that the service takes from any stream, which is a request as well.
const RECORD_BYTES_MOST: u32 = 10 << 20;
/// What requests may be raised to, should the service do that.
const REQUEST_RECORDS_MOST: u32 = 10_000;
const REQUEST_BYTES_MOST: u32 = 64 << 20;
/// What a shard's second may be raised to; as good as no bound.
const SHARD_RECORDS_MOST: u32 = 1_000_000;
const SHARD_BYTES_MOST: u32 = 1 << 30;
/// Groups of keys: more make smaller aggregates, fewer leave shards without records.
const GROUPS: u32 = 16;
const GROUPS_MOST: u32 = 1024;
/// The longest name of a device.
const DEVICE_LEN_MAX: usize = 256;

impl StreamConfig {
    /// How many lanes a `kinesis` sink has: several keep no order among themselves.
    pub(crate) fn kinesis_lanes(&self) -> usize {
        match self.delivery.ordering {
            Ordering::Stream => 1,
            _ => self.delivery.max_in_flight as usize,
        }
    }
}

/// Reads what a `kinesis` sink has besides what all have.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Options> {
    let environment = environment(resolver);
    let stream_name = stream_name(object, resolver)?;
    let credentials = match object.take_set("credentials") {
        Some(node) => source(&node, resolver)?,
        None => Source::Default,
    };
    let region = region(object, resolver, &environment, &credentials)?;
    let endpoint = checked(object, "endpointUrl", resolver, check_address)?;
    let mut proxy = checked(object, "proxy", resolver, check_proxy)?;
    if let Some(text) = &mut proxy
        && text.reveal().contains('@')
    {
        // There is a password in it.
        text.push(&Text::secret(""));
    }
    let encodings = [("json", Encoding::Json), ("cbor", Encoding::Cbor)];
    let encoding = match object.take_set("encoding") {
        Some(node) => resolver.word(&node, &encodings)?,
        None => Encoding::default(),
    };
    let aggregates = match object.take_set("aggregation") {
        Some(node) => resolver.word(&node, &[("none", false), ("kpl", true)])?,
        None => false,
    };
    let ca_file = object.take_set("caFile");
    let ca_file = ca_file.map(|node| resolver.path(&node)).transpose()?;
    let number = |object: &mut Object<'_>, key, max, default| {
        let node = object.take_set(key);
        node.map_or(Ok(default), |node| node.number32(1..=max))
    };
    let groups = number(object, "aggregationGroups", GROUPS_MOST, GROUPS)?;
    let has_envelope = object
        .take_set("envelope")
        .map_or(Ok(false), |node| node.boolean())?;
    let device = device(object, resolver)?;
    let millis = |object: &mut Object<'_>, key, default| {
        let node = object.take_set(key);
        let millis = node.map_or(Ok(default), |node| node.number(1..=MILLIS_MAX))?;
        Ok(Duration::from_millis(millis))
    };
    Ok(Options {
        stream_name,
        region,
        endpoint,
        credentials,
        environment,
        encoding,
        aggregates,
        aggregation_groups: groups,
        has_envelope,
        // As the batches are: see `Batch`.
        compresses: false,
        device,
        ca_file,
        proxy,
        request_timeout: millis(object, "requestTimeoutMs", 30_000)?,
        connect_timeout: millis(object, "connectTimeoutMs", 10_000)?,
        request_records_max: number(
            object,
            "maxRequestRecords",
            REQUEST_RECORDS_MOST,
            kinesis::REQUEST_RECORDS_MAX,
        )?,
        request_bytes_max: number(
            object,
            "maxRequestBytes",
            REQUEST_BYTES_MOST,
            kinesis::REQUEST_BYTES_MAX,
        )?,
        record_bytes_max: number(
            object,
            "maxRecordBytes",
            RECORD_BYTES_MOST,
            kinesis::RECORD_BYTES_MAX,
        )?,
        shard_records_max: number(
            object,
            "maxShardRecordsPerSec",
            SHARD_RECORDS_MOST,
            kinesis::SHARD_RECORDS_MAX,
        )?,
        shard_bytes_max: number(
            object,
            "maxShardBytesPerSec",
            SHARD_BYTES_MOST,
            kinesis::SHARD_BYTES_MAX,
        )?,
    })
}

fn stream_name(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Text> {
    let node = object.required("streamName")?;
    let name = resolver.text(&node)?;
    if !is_name(name.reveal(), STREAM_NAME_MAX, "_.-") {
        let rule = format!(
            "must be 1 to {STREAM_NAME_MAX} letters, digits, dots, underscores and hyphens"
        );
        return Err(node.error(rule));
    }
    Ok(name)
}

/// What envelopes say of the device.
fn device(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Option<Text>> {
    let Some(node) = object.take_set("device") else {
        return Ok(None);
    };
    let device = resolver.text(&node)?;
    if !(1..=DEVICE_LEN_MAX).contains(&device.reveal().len()) {
        let rule = format!("must be 1 to {DEVICE_LEN_MAX} bytes of text");
        return Err(node.error(rule));
    }
    Ok(Some(device))
}

fn is_name(text: &str, len_max: usize, others: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    (1..=len_max).contains(&text.len()) && text.chars().all(is_allowed)
}

/// The region: as it is set, as the environment, the shared files or the things' endpoint name it.
fn region(
    object: &mut Object<'_>,
    resolver: &Resolver<'_>,
    environment: &Environment,
    credentials: &Source,
) -> Result<Text> {
    if let Some(node) = object.take_set("region") {
        let region = resolver.text(&node)?;
        if !is_name(region.reveal(), 32, "-") {
            return Err(node.error("must be a region, as in \"eu-west-1\""));
        }
        return Ok(region);
    }
    let of_endpoint = match credentials {
        Source::Iot { endpoint, .. } => endpoint
            .reveal()
            .split_once(".credentials.iot.")
            .and_then(|(_, rest)| rest.split('.').next()),
        _ => None,
    };
    let found = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .find_map(|name| environment.get(name))
        .map(str::to_owned)
        .or_else(|| region_of_files(environment))
        .or_else(|| of_endpoint.map(str::to_owned))
        .filter(|region| is_name(region, 32, "-"));
    found.map(Text::open).ok_or_else(|| {
        object.node().error(
            "\"region\" is missing, and neither the environment nor the shared files name one",
        )
    })
}

fn checked(
    object: &mut Object<'_>,
    key: &'static str,
    resolver: &Resolver<'_>,
    check: fn(&str) -> std::result::Result<(), &'static str>,
) -> Result<Option<Text>> {
    let Some(node) = object.take_set(key) else {
        return Ok(None);
    };
    let text = resolver.text(&node)?;
    check(text.reveal()).map_err(|rule| node.error(rule))?;
    Ok(Some(text))
}

fn environment(resolver: &Resolver<'_>) -> Environment {
    let mut found = Vec::new();
    for (name, is_secret) in VARIABLES {
        if let Some(text) = resolver.of_environment(name) {
            found.push((
                name,
                match is_secret {
                    true => Text::secret(text),
                    false => Text::open(text),
                },
            ));
        }
    }
    Environment(found)
}

fn source(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<Source> {
    #[derive(Clone, Copy)]
    enum Kind {
        Default,
        Static,
        Environment,
        Profile,
        Container,
        Instance,
        Iot,
    }
    let mut object = node.object()?;
    let words = [
        ("default", Kind::Default),
        ("static", Kind::Static),
        ("environment", Kind::Environment),
        ("profile", Kind::Profile),
        ("container", Kind::Container),
        ("instance", Kind::Instance),
        ("iot", Kind::Iot),
    ];
    let kind = match object.take_set("type") {
        Some(node) => resolver.word(&node, &words)?,
        None => Kind::Default,
    };
    let text = |node: Node<'_>| {
        let text = resolver.text(&node)?;
        let is_there = !text.reveal().is_empty() && !text.reveal().contains(['\r', '\n', '\0']);
        is_there
            .then_some(text)
            .ok_or_else(|| node.error("must be one line of text"))
    };
    let secret = |node: Node<'_>| text(node).map(|text| Text::secret(text.reveal()));
    let path = |node: Node<'_>| resolver.path(&node);
    let source = match kind {
        Kind::Default => Source::Default,
        Kind::Environment => Source::Environment,
        Kind::Container => Source::Container,
        Kind::Instance => Source::Instance,
        Kind::Static => Source::Static {
            id: text(object.required("accessKeyId")?)?,
            secret: secret(object.required("secretAccessKey")?)?,
            token: object.take_set("sessionToken").map(secret).transpose()?,
        },
        Kind::Profile => Source::Profile {
            name: object.take_set("profile").map(text).transpose()?,
            file: object.take_set("file").map(path).transpose()?,
        },
        Kind::Iot => {
            let endpoint = object.required("endpoint")?;
            let host = text(endpoint.clone())?;
            let is_host = check_address(&format!("https://{}/", host.reveal())).is_ok();
            if !is_host || host.reveal().contains('/') {
                return Err(endpoint.error("must be the name of a host"));
            }
            let alias = object.required("roleAlias")?;
            let role_alias = text(alias.clone())?;
            if !is_name(role_alias.reveal(), 128, "_=,@-") {
                return Err(alias.error("must be 1 to 128 of letters, digits and _=,@-"));
            }
            Source::Iot {
                endpoint: host,
                role_alias,
                thing_name: object.take_set("thingName").map(text).transpose()?,
                certificate_file: path(object.required("certificateFile")?)?,
                key_file: path(object.required("keyFile")?)?,
                ca_file: object.take_set("caFile").map(path).transpose()?,
            }
        }
    };
    object.finish()?;
    Ok(source)
}
