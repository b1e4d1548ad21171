//! The fields of a `kinesis` sink as they are in force.

use super::{Fields, millis, object, template, word};
use crate::sink::kinesis::credentials::Source;
use crate::sink::kinesis::{Encoding, Options};
use crate::sink::text::Text;

pub(super) fn fields(options: &Options) -> Fields {
    let Options {
        stream_name,
        region,
        endpoint,
        credentials,
        environment: _,
        encoding,
        aggregates,
        aggregation_groups,
        has_envelope,
        compresses: _,
        device,
        ca_file,
        proxy,
        request_timeout,
        connect_timeout,
        request_records_max,
        request_bytes_max,
        record_bytes_max,
        shard_records_max,
        shard_bytes_max,
    } = options;
    let mut fields = vec![
        ("streamName", template(stream_name)),
        ("region", template(region)),
    ];
    push(&mut fields, "endpointUrl", endpoint.as_ref());
    fields.push(("credentials", object(&source(credentials))));
    fields.push((
        "encoding",
        word(match encoding {
            Encoding::Json => "json",
            Encoding::Cbor => "cbor",
        }),
    ));
    fields.push((
        "aggregation",
        word(if *aggregates { "kpl" } else { "none" }),
    ));
    fields.push(("aggregationGroups", aggregation_groups.to_string()));
    fields.push(("envelope", has_envelope.to_string()));
    push(&mut fields, "device", device.as_ref());
    push(&mut fields, "caFile", ca_file.as_ref());
    push(&mut fields, "proxy", proxy.as_ref());
    fields.extend([
        ("requestTimeoutMs", millis(*request_timeout)),
        ("connectTimeoutMs", millis(*connect_timeout)),
        ("maxRequestRecords", request_records_max.to_string()),
        ("maxRequestBytes", request_bytes_max.to_string()),
        ("maxRecordBytes", record_bytes_max.to_string()),
        ("maxShardRecordsPerSec", shard_records_max.to_string()),
        ("maxShardBytesPerSec", shard_bytes_max.to_string()),
    ]);
    fields
}

fn push(fields: &mut Fields, key: &'static str, text: Option<&Text>) {
    fields.extend(text.map(|text| (key, template(text))));
}

fn source(source: &Source) -> Fields {
    let typed = |name| vec![("type", word(name))];
    match source {
        Source::Default => typed("default"),
        Source::Environment => typed("environment"),
        Source::Container => typed("container"),
        Source::Instance => typed("instance"),
        Source::Static { id, secret, token } => {
            let mut fields = typed("static");
            push(&mut fields, "accessKeyId", Some(id));
            push(&mut fields, "secretAccessKey", Some(secret));
            push(&mut fields, "sessionToken", token.as_ref());
            fields
        }
        Source::Profile { name, file } => {
            let mut fields = typed("profile");
            push(&mut fields, "profile", name.as_ref());
            push(&mut fields, "file", file.as_ref());
            fields
        }
        Source::Iot {
            endpoint,
            role_alias,
            thing_name,
            certificate_file,
            key_file,
            ca_file,
        } => {
            let mut fields = typed("iot");
            push(&mut fields, "endpoint", Some(endpoint));
            push(&mut fields, "roleAlias", Some(role_alias));
            push(&mut fields, "thingName", thing_name.as_ref());
            push(&mut fields, "certificateFile", Some(certificate_file));
            push(&mut fields, "keyFile", Some(key_file));
            push(&mut fields, "caFile", ca_file.as_ref());
            fields
        }
    }
}
