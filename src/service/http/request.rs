//! The head of a request: bytes of a client, of whom nothing is known.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The most bytes of a head.
pub const HEAD_SIZE: usize = 4096;
/// The most lines of a head.
const LINES_MAX: usize = 48;

/// What stands in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The beginning of a head.
    Partial,
    /// Nothing that is answered: the status, and why.
    Bad(u16, &'static str),
    /// A request.
    Request(Request<'a>),
}

/// What is asked for, and by whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The path, without what stands behind `?`.
    pub path: &'a str,
    /// The answer has a body: it is no HEAD.
    pub has_body: bool,
    host: Option<&'a str>,
    authorization: Option<&'a str>,
}

/// Reads the bytes that have come so far.
pub fn parse(head: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; LINES_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if head.len() < HEAD_SIZE => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Bad(431, "the head of the request is too long");
        }
        Err(_) => return Parsed::Bad(400, "that is no request of HTTP/1"),
    }
    let has_body = match request.method {
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return Parsed::Bad(405, "only GET and HEAD"),
    };
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let find = |name: &str| {
        let mut found = request.headers.iter();
        let found = found.find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    Parsed::Request(Request {
        path,
        has_body,
        host: find("host"),
        authorization: find("authorization"),
    })
}

impl Request<'_> {
    /// Whether it may be answered: it brings the token, if there is one; without one its host is an address
    /// or this one's own name, for a page from elsewhere that a browser shows could ask by a name of its own.
    pub fn is_allowed(&self, token: Option<&str>) -> bool {
        match token {
            Some(token) => self.brings(token),
            None => self.host.is_none_or(is_own),
        }
    }

    /// As a bearer's token, or as the password of whatever user.
    fn brings(&self, token: &str) -> bool {
        let Some((scheme, value)) = self.authorization.and_then(|text| text.split_once(' ')) else {
            return false;
        };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return is_same(value.as_bytes(), token.as_bytes());
        }
        let decoded = match scheme.eq_ignore_ascii_case("basic") {
            true => STANDARD.decode(value).unwrap_or_default(),
            false => return false,
        };
        let colon = decoded.iter().position(|byte| *byte == b':');
        colon.is_some_and(|colon| is_same(&decoded[colon + 1..], token.as_bytes()))
    }
}

/// Whether a host, with or without a port, is an address or `localhost`.
fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

/// Compares them in a time that says nothing of where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request<'_> {
        match parse(head.as_bytes()) {
            Parsed::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_a_path_and_whether_its_answer_has_a_body() {
        let get = request("GET /metrics?x=1 HTTP/1.1\r\nHost: localhost:9464\r\n\r\n");
        assert_eq!((get.path, get.has_body), ("/metrics", true));
        let head = request("HEAD / HTTP/1.0\r\n\r\n");
        assert_eq!((head.path, head.has_body), ("/", false));
    }

    #[test]
    fn what_is_none_has_a_status() {
        let bad = |head: &[u8]| match parse(head) {
            Parsed::Bad(status, _) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(b"GET / HT"), Parsed::Partial);
        assert_eq!(bad(b"POST / HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(bad(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400);
        assert_eq!(bad(&[b'G'; HEAD_SIZE]), 431);
        let lines = "X: y\r\n".repeat(LINES_MAX + 1);
        assert_eq!(
            bad(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes()),
            431
        );
    }

    #[test]
    fn a_token_comes_from_a_bearer_or_as_a_password() {
        let asks = |authorization: &str| {
            let head = format!("GET / HTTP/1.1\r\nAuthorization: {authorization}\r\n\r\n");
            request(&head).is_allowed(Some("open sesame"))
        };
        assert!(asks("Bearer open sesame") && asks("bearer  open sesame"));
        // user:open sesame
        assert!(asks("Basic dXNlcjpvcGVuIHNlc2FtZQ=="));
        for wrong in [
            "Bearer open",
            "Bearer open sesame!",
            "Basic !",
            "Basic",
            "",
            "Digest x",
        ] {
            assert!(!asks(wrong), "{wrong}");
        }
        assert!(!request("GET / HTTP/1.1\r\n\r\n").is_allowed(Some("open sesame")));
    }

    /// A page from elsewhere asks by its own name, which it lets point here.
    #[test]
    fn without_a_token_a_strange_name_gets_nothing() {
        let asks = |host: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            request(&head).is_allowed(None)
        };
        assert!(asks("127.0.0.1:9464") && asks("[::1]:9464") && asks("LocalHost"));
        assert!(!asks("evil.example:9464") && !asks("127.0.0.1.evil.example") && !asks("[x"));
    }
}
