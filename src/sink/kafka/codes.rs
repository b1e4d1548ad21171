//! What the errors of the client and of the brokers mean for a record, and for the link.

use super::client::ErrorCode;
use crate::sink::Link;

/// What becomes of a record that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The brokers will never take it; or, when it was sent together with others, one of them.
    Refused,
    /// Its client is of no more use.
    Broken,
    /// It can be sent again, when this is right.
    Again(Link),
}

/// What an error of a delivery report, or of handing a message over, means.
pub fn verdict(code: ErrorCode) -> Verdict {
    match code {
        // invalid size, message too large, record list too large, invalid timestamp, invalid record
        4 | 10 | 18 | 32 | 87 => Verdict::Refused,
        // fatal, state, fenced, producer fenced
        -150 | -172 | -144 | 90 => Verdict::Broken,
        code => Verdict::Again(link(code)),
    }
}

/// What an error says of the link.
pub fn link(code: ErrorCode) -> Link {
    match code {
        // authentication; topic, group, cluster and transaction not authorized; SASL
        -169 | 29 | 30 | 31 | 33 | 34 | 53 | 58 => Link::Auth,
        // TLS; no such topic or partition; acks, version, request, policy, compression
        -181 | -188 | -190 | -186 | -170 | -165 | 3 | 17 | 21 | 35 | 42 | 43 | 44 | 76 => {
            Link::Config
        }
        // a quota, or our own bound on the client's queue
        89 | -184 => Link::Throttled,
        _ => Link::Down,
    }
}

/// What an error that no record goes with says of the link, by its number and its text.
pub fn link_of(code: ErrorCode, text: &str) -> Link {
    // A certificate that is missing, or not taken, is told by an alert, which comes when TLS 1.3 counts as
    // set up already: then only the text of a broken connection has it.
    match text.contains("alert certificate") || text.contains("alert bad certificate") {
        true => Link::Auth,
        false => link(code),
    }
}

/// Whether an error that no record goes with means that nothing can be delivered at present.
pub fn stops_everything(code: ErrorCode, text: &str) -> bool {
    // all brokers down; TLS, where the way to one broker fails as that to any other
    code == -187 || code == -181 || link_of(code, text) == Link::Auth
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `L-S10`, `L-115`: what never goes through is not tried for ever, and who has to act is told apart.
    #[test]
    fn errors_are_told_apart() {
        use rdkafka_sys::rd_kafka_resp_err_t as name;
        let cases = [
            (name::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Verdict::Refused),
            (name::RD_KAFKA_RESP_ERR_INVALID_RECORD, Verdict::Refused),
            (name::RD_KAFKA_RESP_ERR__FATAL, Verdict::Broken),
            (
                name::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
                Verdict::Again(Link::Auth),
            ),
            (
                name::RD_KAFKA_RESP_ERR__AUTHENTICATION,
                Verdict::Again(Link::Auth),
            ),
            (
                name::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
                Verdict::Again(Link::Config),
            ),
            (
                name::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
                Verdict::Again(Link::Throttled),
            ),
            (
                name::RD_KAFKA_RESP_ERR__QUEUE_FULL,
                Verdict::Again(Link::Throttled),
            ),
            (
                name::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
                Verdict::Again(Link::Down),
            ),
            (
                name::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                Verdict::Again(Link::Down),
            ),
        ];
        for (name, expected) in cases {
            assert_eq!(verdict(name as ErrorCode), expected, "{name:?}");
        }
        let text = "ssl://broker:9096/bootstrap: Receive failed: ssl/record/rec_layer_s3.c:1605: \
                    error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert number 116";
        assert_eq!(link_of(-195, text), Link::Auth);
        assert_eq!(link_of(-195, "Receive failed: Disconnected"), Link::Down);
        assert_eq!(verdict(4711), Verdict::Again(Link::Down), "a future error");
    }
}
