//! The names that the service has for errors, and what they mean.

use crate::sink::Link;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is known: it is sent again.
    Unknown,
    /// The service asks to slow down.
    Throttled,
    /// The credentials are not taken, or do not allow it.
    Auth,
    /// The credentials have ended: newer ones are needed.
    Expired,
    /// The signature is not taken, perhaps because of the clock.
    Signature,
    /// What the configuration asks for is not there, or not allowed.
    Config,
    /// The records themselves are not taken.
    Records,
}

impl Kind {
    /// How the link is then.
    pub fn link(self) -> Link {
        match self {
            Kind::Unknown => Link::Down,
            Kind::Throttled => Link::Throttled,
            Kind::Auth | Kind::Expired | Kind::Signature => Link::Auth,
            Kind::Config | Kind::Records => Link::Config,
        }
    }
}

/// All names that services have for a signature of a wrong time, and for one that is wrong.
pub const SIGNATURE: [&str; 8] = [
    "AuthFailure",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestInTheFuture",
    "RequestTimeTooSkewed",
    "RequestTimeTooSkewedException",
    "SignatureDoesNotMatch",
    "SignatureDoesNotMatchException",
];

const EXPIRED: [&str; 7] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidToken",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "UnrecognizedClient",
];

const THROTTLED: [&str; 14] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "KMSThrottlingException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

const AUTH: [&str; 8] = [
    "AccessDenied",
    "AccessDeniedException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
];

const CONFIG: [&str; 8] = [
    "DryRunOperationException",
    "InvalidAction",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
    "ResourceNotFoundException",
];

const RECORDS: [&str; 5] = [
    "InvalidArgumentException",
    "RequestEntityTooLarge",
    "SerializationException",
    "ValidationError",
    "ValidationException",
];

/// What an error is about, from its status and its name, if it has one.
pub fn kind(status: u16, name: &str) -> Kind {
    let has = |names: &[&str]| names.contains(&name);
    match (status, name) {
        _ if has(&SIGNATURE) => Kind::Signature,
        _ if has(&EXPIRED) => Kind::Expired,
        _ if has(&THROTTLED) => Kind::Throttled,
        _ if has(&AUTH) => Kind::Auth,
        _ if has(&CONFIG) => Kind::Config,
        _ if has(&RECORDS) => Kind::Records,
        (429, _) => Kind::Throttled,
        (413, _) => Kind::Records,
        // Only the service names its errors; a gateway's page or a captive portal says nothing.
        (_, "") => Kind::Unknown,
        (401 | 403, _) => Kind::Auth,
        (400..=499, _) if name != "RequestTimeout" && name != "RequestTimeoutException" => {
            Kind::Config
        }
        _ => Kind::Unknown,
    }
}
