//! AWS Signature Version 4 as the service checks it: written from its description, on `ring`, apart from
//! what the sink uses.

use std::collections::BTreeMap;

use ring::{digest, hmac};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A key that the service knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Key {
    pub fn new(id: &str, secret: &str, token: Option<&str>) -> Self {
        Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: token.map(str::to_owned),
        }
    }
}

/// Signatures hold for so long around their time.
const WINDOW_SECS: u64 = 300;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// Seconds since 1970 as a signature has them: `20150830T123600Z`.
pub fn stamp(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day, counted day by day: slow and plain.
pub fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

fn secs_of(stamp: &str) -> Option<u64> {
    let part = |from: usize, to: usize| stamp.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let found = (0..40_000).find(|days| civil(*days) == (year, month, day))?;
    Some(found * 86_400 + part(9, 11)? * 3600 + part(11, 13)? * 60 + part(13, 15)?)
}

/// The signature that a request must have. The host and the time are always signed.
fn signature(request: &Request, key: &Key, scope: &str, names: &str, stamp: &str) -> String {
    let headers: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", request.header(name).trim()))
        .collect();
    let canonical = format!(
        "{}\n{}\n\n{headers}\n{names}\n{}",
        request.method,
        request.path,
        sha256(&request.body)
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
        sha256(canonical.as_bytes())
    );
    let secret = format!("AWS4{}", key.secret).into_bytes();
    let signing = scope.split('/').fold(secret, |key, part| mac(&key, part));
    hex(&mac(&signing, &to_sign))
}

/// Checks a request as the service does; else the name of the error.
pub fn check(request: &Request, keys: &[Key], now_secs: u64) -> Result<(), &'static str> {
    let authorization = request.header("authorization");
    if authorization.is_empty() {
        return Err("MissingAuthenticationTokenException");
    }
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ");
    let mut fields = BTreeMap::new();
    for part in rest.ok_or("IncompleteSignatureException")?.split(',') {
        let (name, value) = part
            .trim()
            .split_once('=')
            .ok_or("IncompleteSignatureException")?;
        fields.insert(name, value);
    }
    let field = |name| {
        fields
            .get(name)
            .copied()
            .ok_or("IncompleteSignatureException")
    };
    let (id, scope) = field("Credential")?
        .split_once('/')
        .ok_or("IncompleteSignatureException")?;
    let stamp = request.header("x-amz-date");
    let names = field("SignedHeaders")?;
    let signed: Vec<&str> = names.split(';').collect();
    if !signed.contains(&"host") || !signed.contains(&"x-amz-date") || !signed.is_sorted() {
        return Err("InvalidSignatureException");
    }
    let expected_scope = format!(
        "{}/eu-west-1/kinesis/aws4_request",
        stamp.get(..8).unwrap_or("")
    );
    if scope != expected_scope {
        return Err("InvalidSignatureException");
    }
    let signed_secs = secs_of(stamp).ok_or("IncompleteSignatureException")?;
    let key = keys
        .iter()
        .find(|key| key.id == id)
        .ok_or("UnrecognizedClientException")?;
    if key.token.as_deref().unwrap_or("") != request.header("x-amz-security-token") {
        return Err("UnrecognizedClientException");
    }
    if signature(request, key, scope, names, stamp) != field("Signature")? {
        return Err("InvalidSignatureException");
    }
    if signed_secs.abs_diff(now_secs) > WINDOW_SECS {
        return Err("InvalidSignatureException");
    }
    Ok(())
}

/// The published vector `post-vanilla` (AWS signing test suite), by this implementation.
#[test]
fn the_tests_own_signatures_are_right() {
    let mut request = Request {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        ..Request::default()
    };
    let stamp = stamp(1_440_938_160);
    assert_eq!(stamp, "20150830T123600Z");
    assert_eq!(secs_of(&stamp), Some(1_440_938_160));
    request
        .headers
        .insert("host".to_owned(), "example.amazonaws.com".to_owned());
    request
        .headers
        .insert("x-amz-date".to_owned(), stamp.clone());
    let key = Key::new(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        None,
    );
    let scope = "20150830/us-east-1/service/aws4_request";
    assert_eq!(
        signature(&request, &key, scope, "host;x-amz-date", &stamp),
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    );
}

/// Each part of a request is covered.
#[test]
fn a_request_that_was_changed_is_refused() {
    let key = Key::new("id", "secret", Some("token"));
    let stamp = stamp(1_800_000_000);
    let mut request = Request {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        body: b"{}".to_vec(),
        ..Request::default()
    };
    for (name, value) in [
        ("host", "h"),
        ("x-amz-date", &stamp),
        ("x-amz-security-token", "token"),
    ] {
        request.headers.insert(name.to_owned(), value.to_owned());
    }
    let scope = format!("{}/eu-west-1/kinesis/aws4_request", &stamp[..8]);
    let names = "host;x-amz-date;x-amz-security-token";
    let signature = signature(&request, &key, &scope, names, &stamp);
    request.headers.insert(
        "authorization".to_owned(),
        format!(
            "AWS4-HMAC-SHA256 Credential=id/{scope}, SignedHeaders={names}, Signature={signature}"
        ),
    );
    let keys = [key];
    let check = |request: &Request, now| check(request, &keys, now);
    assert_eq!(check(&request, 1_800_000_299), Ok(()));
    assert_eq!(
        check(&request, 1_800_000_301),
        Err("InvalidSignatureException")
    );
    for change in [
        |request: &mut Request| request.body.push(b' '),
        |request: &mut Request| request.path.push('x'),
        |request: &mut Request| request.method = "PUT".to_owned(),
        |request: &mut Request| request.headers.get_mut("host").unwrap().push('x'),
        |request: &mut Request| request.headers.get_mut("authorization").unwrap().push('0'),
        |request: &mut Request| {
            request
                .headers
                .get_mut("x-amz-security-token")
                .unwrap()
                .push('x')
        },
    ] {
        let mut changed = request.clone();
        change(&mut changed);
        check(&changed, 1_800_000_000).unwrap_err();
    }
}
