//! Signatures: AWS Signature Version 4, by `aws-sigv4`.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;

use super::credentials::Credentials;

/// What a signature is for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub uri: &'a str,
    /// Headers that are signed, besides `host` and the time.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    /// Milliseconds since 1970.
    pub time_ms: u64,
}

/// The headers that a POST request needs besides its own, their values secret.
pub fn signed(
    request: &Request<'_>,
    credentials: &Credentials,
) -> Result<Vec<(&'static str, String)>, String> {
    let token = credentials.token.clone();
    let (id, secret) = (credentials.id.clone(), credentials.secret.clone());
    let identity = Keys::new(id, secret, token, None, "forebay").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(request.region)
        .name(request.service)
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(request.time_ms))
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| "cannot be signed")?
        .into();
    let (headers, body) = (request.headers.iter().copied(), request.body);
    let to_sign = SignableRequest::new("POST", request.uri, headers, SignableBody::Bytes(body))
        .map_err(|_| "cannot be signed")?;
    let output = sign(to_sign, &params).map_err(|_| "cannot be signed")?;
    let (instructions, _) = output.into_parts();
    let (headers, _) = instructions.into_parts();
    let headers = headers.into_iter();
    Ok(headers
        .map(|header| (header.name(), header.value().to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::kinesis::time::iso_date_ms;

    /// Cases of the suite that AWS publishes (`aws-signing-test-suite/v4`): the requests are POSTs.
    #[test]
    fn the_published_vectors_are_met() {
        let token = concat!(
            "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwA",
            "eMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8p",
            "hUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT",
            "38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabI",
            "Qwj2ICCR/oLxBA==",
        );
        let credentials = |token: Option<&str>| Credentials {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            token: token.map(str::to_owned),
        };
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        for (headers, body, token, expected) in [
            (
                &[][..],
                "",
                None,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                &[form][..],
                "Param1=value1",
                None,
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                &[("My-Header1", "VALUE1")][..],
                "",
                None,
                "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
            ),
            (
                &[][..],
                "",
                Some(token),
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            let request = Request {
                region: "us-east-1",
                service: "service",
                uri: "https://example.amazonaws.com/",
                headers,
                body: body.as_bytes(),
                time_ms: iso_date_ms("2015-08-30T12:36:00Z").unwrap(),
            };
            let signed = signed(&request, &credentials(token)).unwrap();
            let mut found = signed.iter().filter(|(name, _)| *name == "authorization");
            let authorization = &found.next().unwrap().1;
            let (_, signature) = authorization.split_once("Signature=").unwrap();
            assert_eq!(signature, expected, "{authorization}");
        }
    }
}
