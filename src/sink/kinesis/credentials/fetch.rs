//! The exchanges by which credentials are had.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::profile::{Section, section};
use super::{Credentials, Environment, Failure, Fetched, Life, Provider, Source};
use crate::sink::kinesis::http::{Client, Method, Reply, Settings};
use crate::sink::kinesis::time::iso_date_ms;
use crate::sink::text::Text;
use crate::storage::read_text;

/// The most that is read of an answer or a file, in bytes.
const LEN_MAX: usize = 64 << 10;
/// How long what does not say it is good.
const LIFE: Duration = Duration::from_secs(900);
/// Where containers ask.
const CONTAINER: &str = "http://169.254.170.2";
/// Where instances ask.
const INSTANCE: &str = "http://169.254.169.254";
/// How long the metadata service may take: it is near, or not there.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(2);

impl Provider {
    pub(super) fn needs_client(&self) -> bool {
        let is_local = matches!(
            self.source,
            Source::Static { .. } | Source::Environment | Source::Profile { .. }
        );
        !is_local
    }

    pub(super) fn new_client(&self) -> Result<Client, Failure> {
        let mut settings = Settings {
            connect_timeout: self.connect_timeout,
            ..Settings::default()
        };
        match &self.source {
            Source::Iot {
                certificate_file,
                key_file,
                ca_file,
                ..
            } => {
                settings.identity = Some((certificate_file.reveal(), key_file.reveal()));
                settings.ca_file = ca_file.as_ref().map(Text::reveal);
                settings.proxy_of_environment = true;
            }
            _ => settings.connect_timeout = INSTANCE_TIMEOUT,
        }
        let (clock, time) = (Arc::clone(&self.clock), Arc::clone(&self.time));
        Client::new(&settings, clock, time).map_err(Failure::auth)
    }

    pub(super) fn fetch(&self, client: Option<&Client>) -> Result<Fetched, Failure> {
        match &self.source {
            Source::Static { id, secret, token } => Ok(Fetched {
                credentials: Credentials {
                    id: id.reveal().to_owned(),
                    secret: secret.reveal().to_owned(),
                    token: token.as_ref().map(|token| token.reveal().to_owned()),
                },
                life: Life::ForEver,
            }),
            Source::Environment => environment(&self.environment),
            Source::Profile { name, file } => {
                let (name, file) = (name.as_ref(), file.as_ref());
                self.profile(name.map(Text::reveal), file.map(Text::reveal))
            }
            Source::Container => self.container(is_there(client)?),
            Source::Instance => self.instance(is_there(client)?),
            Source::Iot {
                endpoint,
                role_alias,
                thing_name,
                ..
            } => {
                let thing = thing_name.as_ref().map(Text::reveal);
                self.iot(
                    is_there(client)?,
                    endpoint.reveal(),
                    role_alias.reveal(),
                    thing,
                )
            }
            Source::Default => self.first(is_there(client)?),
        }
    }

    /// The first that there is.
    fn first(&self, client: &Client) -> Result<Fetched, Failure> {
        let set = |name| self.environment.get(name).is_some();
        if set("AWS_ACCESS_KEY_ID") {
            return environment(&self.environment);
        }
        let profile = self.profile(None, None);
        if profile.is_ok() || set("AWS_PROFILE") {
            return profile;
        }
        if set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
            || set("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        {
            return self.container(client);
        }
        self.instance(client).map_err(|failure| Failure {
            text: format!("no credentials were found; at last: {}", failure.text),
            ..failure
        })
    }

    fn profile(&self, name: Option<&str>, file: Option<&str>) -> Result<Fetched, Failure> {
        let environment = &self.environment;
        let name = name.or_else(|| environment.get("AWS_PROFILE"));
        let name = name.unwrap_or("default");
        let credentials = match file {
            Some(file) => Some(PathBuf::from(file)),
            None => shared_file(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        };
        let settings = shared_file(environment, "AWS_CONFIG_FILE", "config");
        let places = [(credentials, name.to_owned()), (settings, header(name))];
        for (path, header) in places {
            let text = path.and_then(|path| read_text(&path, LEN_MAX as u64).ok());
            let Some(found) = text.and_then(|text| section(&text, &header)) else {
                continue;
            };
            let Section {
                id, secret, token, ..
            } = found;
            match (id, secret) {
                (Some(id), Some(secret)) => {
                    return Ok(Fetched {
                        credentials: Credentials { id, secret, token },
                        life: Life::File,
                    });
                }
                (None, None) => {}
                _ => return Err(Failure::auth(format!("profile {name}: half of a key"))),
            }
        }
        Err(Failure::auth(format!("profile {name}: no credentials")))
    }

    fn container(&self, client: &Client) -> Result<Fetched, Failure> {
        let environment = &self.environment;
        let uri = match (
            environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => format!("{CONTAINER}{path}"),
            (None, Some(uri)) if is_near(uri) => uri.to_owned(),
            (None, Some(_)) => {
                let text = "the container's endpoint is neither https nor of this machine";
                return Err(Failure::auth(text));
            }
            (None, None) => return Err(Failure::auth("no container's endpoint is named")),
        };
        let token = match environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => {
                let text = read_text(Path::new(path), LEN_MAX as u64);
                let text = text.map_err(|error| Failure::auth(format!("{path}: {error}")))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => environment
                .get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
                .map(str::to_owned),
        };
        if token
            .as_ref()
            .is_some_and(|token| token.contains(['\r', '\n']))
        {
            return Err(Failure::auth("the container's token has several lines"));
        }
        let mut headers = vec![("accept", "application/json")];
        headers.extend(
            token
                .as_ref()
                .map(|token| ("authorization", token.as_str())),
        );
        let mut body = Vec::new();
        let reply = self.ask(client, &Method::Get, &uri, &headers, &mut body)?;
        answered("the container's endpoint", &reply)?;
        self.read(
            &body,
            &reply,
            ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"],
        )
    }

    fn instance(&self, client: &Client) -> Result<Fetched, Failure> {
        const PATH: &str = "/latest/meta-data/iam/security-credentials/";
        const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
        let environment = &self.environment;
        let disabled = environment.get("AWS_EC2_METADATA_DISABLED");
        if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Err(Failure::auth(
                "the environment switches the metadata service off",
            ));
        }
        let base = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let base = base.unwrap_or(INSTANCE).trim_end_matches('/');
        let mut body = Vec::new();
        let text = |body: &[u8]| {
            let line = String::from_utf8_lossy(body);
            line.lines().next().unwrap_or_default().trim().to_owned()
        };
        let uri = format!("{base}/latest/api/token");
        let ttl = [(TTL, "21600")];
        let reply = self.ask(client, &Method::Put, &uri, &ttl, &mut body)?;
        answered("the metadata service", &reply)?;
        if reply.ttl_secs.is_none() {
            return Err(Failure::down("what answers is no metadata service"));
        }
        let token = text(&body);
        let headers = [("x-aws-ec2-metadata-token", token.as_str())];
        let uri = format!("{base}{PATH}");
        let reply = self.ask(client, &Method::Get, &uri, &headers, &mut body)?;
        answered("the metadata service", &reply)?;
        let role = text(&body);
        if role.is_empty() || role.contains('/') {
            return Err(Failure::auth("the instance has no role"));
        }
        let uri = format!("{base}{PATH}{role}");
        let reply = self.ask(client, &Method::Get, &uri, &headers, &mut body)?;
        answered("the metadata service", &reply)?;
        let code: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(code) = code["Code"].as_str().filter(|code| *code != "Success") {
            let code = code.chars().filter(char::is_ascii_alphanumeric);
            let code: String = code.take(64).collect();
            return Err(Failure::auth(format!("the metadata service says {code}")));
        }
        self.read(
            &body,
            &reply,
            ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"],
        )
    }

    fn iot(
        &self,
        client: &Client,
        endpoint: &str,
        role_alias: &str,
        thing: Option<&str>,
    ) -> Result<Fetched, Failure> {
        let uri = format!("https://{endpoint}/role-aliases/{role_alias}/credentials");
        let headers: Vec<_> = thing
            .map(|name| ("x-amzn-iot-thingname", name))
            .into_iter()
            .collect();
        let mut body = Vec::new();
        let reply = self.ask(client, &Method::Get, &uri, &headers, &mut body)?;
        answered("the credentials provider", &reply)?;
        let names = [
            "accessKeyId",
            "secretAccessKey",
            "sessionToken",
            "expiration",
        ];
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        self.read_value(&value["credentials"], &reply, names)
    }

    fn ask(
        &self,
        client: &Client,
        method: &Method<'_>,
        uri: &str,
        headers: &[(&str, &str)],
        body: &mut Vec<u8>,
    ) -> Result<Reply, Failure> {
        let reply = client.send(method, uri, headers, self.timeout, body, LEN_MAX);
        reply.map_err(|text| Failure::down(format!("credentials: {text}")))
    }

    fn read(&self, body: &[u8], reply: &Reply, names: [&str; 4]) -> Result<Fetched, Failure> {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        self.read_value(&value, reply, names)
    }

    fn read_value(
        &self,
        value: &Value,
        reply: &Reply,
        names: [&str; 4],
    ) -> Result<Fetched, Failure> {
        let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty());
        let [id, secret, token, expiration] = names.map(text);
        let (Some(id), Some(secret)) = (id, secret) else {
            return Err(Failure::down("the answer has no credentials"));
        };
        // Held against the date in the same answer where it has one: our clock may be wrong.
        let now = reply.dated.date_ms;
        let now = now.unwrap_or_else(|| self.time.now_ms(&*self.clock));
        let life = match expiration.and_then(iso_date_ms) {
            Some(end) if end > now && end - now < 7 * 86_400_000 => {
                Duration::from_millis(end - now)
            }
            _ => LIFE,
        };
        Ok(Fetched {
            credentials: Credentials {
                id: id.to_owned(),
                secret: secret.to_owned(),
                token: token.map(str::to_owned),
            },
            life: Life::Ends(life),
        })
    }
}

/// The region that the shared files name.
pub fn region(environment: &Environment) -> Option<String> {
    let name = environment.get("AWS_PROFILE").unwrap_or("default");
    let path = shared_file(environment, "AWS_CONFIG_FILE", "config")?;
    let text = read_text(&path, LEN_MAX as u64).ok()?;
    section(&text, &header(name))?.region
}

/// What a section is called in the file of settings.
fn header(name: &str) -> String {
    match name {
        "default" => name.to_owned(),
        name => format!("profile {name}"),
    }
}

fn shared_file(environment: &Environment, variable: &str, name: &str) -> Option<PathBuf> {
    let named = environment.get(variable).map(PathBuf::from);
    let own = || Some(Path::new(environment.get("HOME")?).join(".aws").join(name));
    named.or_else(own)
}

fn environment(environment: &Environment) -> Result<Fetched, Failure> {
    let get = |name| environment.get(name).map(str::to_owned);
    match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => Ok(Fetched {
            credentials: Credentials {
                id,
                secret,
                token: get("AWS_SESSION_TOKEN"),
            },
            life: Life::ForEver,
        }),
        _ => Err(Failure::auth("the environment has no key, or half of one")),
    }
}

fn is_there(client: Option<&Client>) -> Result<&Client, Failure> {
    client.ok_or_else(|| Failure::auth("no client"))
}

fn answered(who: &str, reply: &Reply) -> Result<(), Failure> {
    match reply.status {
        200 => Ok(()),
        400..=428 | 430..=499 => Err(Failure::auth(format!("{who} answers {}", reply.status))),
        _ => Err(Failure::down(format!("{who} answers {}", reply.status))),
    }
}

/// Whether secrets may be had from there: in private, or from this machine.
fn is_near(uri: &str) -> bool {
    if uri.starts_with("https://") {
        return true;
    }
    let Some(host) = uri.strip_prefix("http://") else {
        return false;
    };
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let near = |ip: IpAddr| {
        ip.is_loopback()
            || ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"]
                .iter()
                .any(|known| known.parse() == Ok(ip))
    };
    let found: Vec<_> = host.to_socket_addrs().into_iter().flatten().collect();
    !found.is_empty() && found.iter().all(|address| near(address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_this_machine_or_in_private() {
        assert!(is_near("https://example.com/x"));
        assert!(is_near("http://127.0.0.1:8080/x"));
        assert!(is_near("http://169.254.170.2/v2"));
        assert!(is_near("http://[::1]:80/v2"));
        assert!(!is_near("http://192.0.2.7/v2"));
        assert!(!is_near("ftp://127.0.0.1/"));
        assert!(!is_near("http://127.0.0.1@192.0.2.7/"));
    }
}
