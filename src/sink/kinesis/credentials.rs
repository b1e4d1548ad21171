//! Who signs: found when it is needed, renewed ahead of its end, and never needed at start.
//!
//! ```text
//!  settings ─ environment ─ profile ─ container ─ instance ─ things' endpoint
//!       └───────────┴──────────┴─ fetch ─┴───────────┴────────────┘
//!                                   ▼
//!                     current ──▶ lanes sign with it; one lane at a time renews it
//! ```
//!
//! What has an end is renewed when a quarter of its life is left, at least a minute and at most fifteen,
//! and up to a quarter of that earlier, so that many gateways do not ask at once. When that fails, the old
//! one is used on: the service decides whether it has ended, not a clock that may be wrong. Whatever
//! fails is tried again, after 1 s to 5 min.
//!
//! **Threads.** The lanes of one sink share it. The lock is not held while something is fetched.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::http::Client;
use super::time::Time;
use crate::clock::{Clock, Mono};
use crate::sink::Link;
use crate::sink::text::Text;
use crate::storage::random;
use crate::watermark::seam::Mutex;

mod fetch;
pub use fetch::region;
mod profile;

/// After a service has refused them, they are not fetched again for so long.
const FORCE_EVERY: Duration = Duration::from_secs(60);
/// The ranges of waits after failures.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// So often files are looked into again.
const FILE_EVERY: Duration = Duration::from_secs(10);

/// Variables of the environment that say something about credentials, and whether they are secret.
pub const VARIABLES: [(&str, bool); 15] = [
    ("AWS_ACCESS_KEY_ID", true),
    ("AWS_SECRET_ACCESS_KEY", true),
    ("AWS_SESSION_TOKEN", true),
    ("AWS_PROFILE", false),
    ("AWS_SHARED_CREDENTIALS_FILE", false),
    ("AWS_CONFIG_FILE", false),
    ("HOME", false),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", false),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", false),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", true),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", false),
    ("AWS_EC2_METADATA_DISABLED", false),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", false),
    ("AWS_REGION", false),
    ("AWS_DEFAULT_REGION", false),
];

/// What the environment says, as it was when the configuration was read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub Vec<(&'static str, Text)>);

impl Environment {
    /// The value of a variable of [`VARIABLES`]; `None`: not set, or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| value.reveal())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The first that there is of environment, profile, container and instance.
    Default,
    /// These.
    Static {
        /// The key's id.
        id: Text,
        /// The key.
        secret: Text,
        /// What goes with keys that end.
        token: Option<Text>,
    },
    /// Variables of the environment.
    Environment,
    /// A section of the shared files.
    Profile {
        /// Its name; `None`: as the environment says.
        name: Option<Text>,
        /// The file; `None`: as the environment says.
        file: Option<Text>,
    },
    /// The endpoint that a container's environment names; Greengrass is such an environment.
    Container,
    /// The metadata service of an instance, version 2.
    Instance,
    /// The credentials provider of AWS for things: by a device's certificate.
    Iot {
        /// Its host name, as `DescribeEndpoint` tells it.
        endpoint: Text,
        /// The alias of the role.
        role_alias: Text,
        /// The thing's name, where policies ask for it.
        thing_name: Option<Text>,
        /// The device's certificate.
        certificate_file: Text,
        /// Its key.
        key_file: Text,
        /// What the endpoint's certificate is checked against.
        ca_file: Option<Text>,
    },
}

/// What requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The key's id.
    pub id: String,
    /// The key.
    pub secret: String,
    /// What goes with a key that ends.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

impl Credentials {
    /// Whether a text shows what nobody may see.
    pub fn is_shown_in(&self, text: &str) -> bool {
        let mut secrets = [Some(&self.secret), self.token.as_ref()]
            .into_iter()
            .flatten();
        secrets.any(|secret| !secret.is_empty() && text.contains(secret.as_str()))
    }
}

/// What was fetched.
struct Fetched {
    credentials: Credentials,
    /// How long it is good.
    life: Life,
}

enum Life {
    ForEver,
    /// As long as the file says the same.
    File,
    /// So long from now.
    Ends(Duration),
}

/// Why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the link is then.
    pub link: Link,
    /// What went wrong.
    pub text: String,
}

impl Failure {
    fn auth(text: impl Into<String>) -> Self {
        Self {
            link: Link::Auth,
            text: text.into(),
        }
    }

    fn down(text: impl Into<String>) -> Self {
        Self {
            link: Link::Down,
            text: text.into(),
        }
    }
}

/// Gives credentials.
pub struct Provider {
    source: Source,
    environment: Environment,
    clock: Arc<dyn Clock>,
    time: Arc<Time>,
    timeout: Duration,
    connect_timeout: Duration,
    state: Mutex<State>,
}

struct State {
    current: Option<Arc<Credentials>>,
    renew_at: Mono,
    is_fetching: bool,
    failures: u32,
    failure: Option<Failure>,
    /// Not fetched on demand of the service before this instant.
    force_at: Mono,
    /// Made when it is first needed.
    client: Option<Client>,
}

impl Provider {
    /// From a source. Fetches nothing yet.
    pub fn new(
        source: Source,
        environment: Environment,
        clock: Arc<dyn Clock>,
        time: Arc<Time>,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Self {
        Self {
            source,
            environment,
            clock,
            time,
            timeout,
            connect_timeout,
            state: Mutex::new(State {
                current: None,
                renew_at: Mono(0),
                is_fetching: false,
                failures: 0,
                failure: None,
                force_at: Mono(0),
                client: None,
            }),
        }
    }

    /// The credentials to sign with; fetched where they are due. Else why there are none.
    pub fn get(&self) -> Result<Arc<Credentials>, Failure> {
        let client = {
            let mut state = self.state.lock();
            let is_due = self.clock.mono() >= state.renew_at && !state.is_fetching;
            if !is_due {
                return state.known();
            }
            state.is_fetching = true;
            state.client.take()
        };
        let fetching = Fetching(self);
        let fetched = self.fetch_with(client);
        drop(fetching);
        let mut state = self.state.lock();
        let now = self.clock.mono();
        let (fetched, client) = match fetched {
            Ok((fetched, client)) => (Ok(fetched), client),
            Err(failure) => (Err(failure), None),
        };
        state.client = client;
        match fetched {
            Ok(Fetched { credentials, life }) => {
                state.failures = 0;
                state.failure = None;
                state.renew_at = match life {
                    Life::ForEver => Mono::NEVER,
                    Life::File => now.plus(FILE_EVERY),
                    Life::Ends(after) => now.plus(renewed_after(after)),
                };
                if state.current.as_deref() != Some(&credentials) {
                    state.current = Some(Arc::new(credentials));
                }
            }
            Err(failure) => {
                let range = RETRY_MIN.saturating_mul(1 << state.failures.min(10));
                state.renew_at = now.plus(RETRY_MIN / 2 + part_of(range.min(RETRY_MAX)));
                state.failures = state.failures.saturating_add(1);
                if state.current.is_some() && state.failures == 1 {
                    log::warn!("credentials cannot be renewed: {}", failure.text);
                }
                state.failure = Some(failure);
            }
        }
        state.known()
    }

    /// The service says that these have ended. Whether others are worth a try at once.
    pub fn refused(&self, used: &Arc<Credentials>) -> bool {
        let mut state = self.state.lock();
        let now = self.clock.mono();
        if state
            .current
            .as_ref()
            .is_some_and(|current| !Arc::ptr_eq(current, used))
        {
            return true; // another lane has renewed them
        }
        if state.is_fetching || now < state.force_at || state.renew_at == Mono::NEVER {
            return false;
        }
        state.force_at = now.plus(FORCE_EVERY);
        state.renew_at = now;
        true
    }

    fn fetch_with(&self, client: Option<Client>) -> Result<(Fetched, Option<Client>), Failure> {
        let client = match client {
            None if self.needs_client() => Some(self.new_client()?),
            client => client,
        };
        let fetched = self.fetch(client.as_ref())?;
        Ok((fetched, client))
    }
}

/// Somebody fetches, until this is dropped.
struct Fetching<'a>(&'a Provider);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_fetching = false;
    }
}

impl State {
    fn known(&self) -> Result<Arc<Credentials>, Failure> {
        match (&self.current, &self.failure) {
            (Some(current), _) => Ok(Arc::clone(current)),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Err(Failure::auth("credentials are being fetched")),
        }
    }
}

/// When to renew what is good for so long.
fn renewed_after(life: Duration) -> Duration {
    let ahead = (life / 4).clamp(Duration::from_secs(60), Duration::from_secs(900));
    let after = life.saturating_sub(ahead + part_of(ahead / 4));
    // Never in a hurry, however short it is.
    after.max(RETRY_MIN)
}

/// A random part.
fn part_of(range: Duration) -> Duration {
    let mut bytes = [0; 4];
    random(&mut bytes);
    range.mul_f64(f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_renewed_ahead_of_its_end() {
        let secs = Duration::from_secs;
        for _ in 0..100 {
            let hour = renewed_after(secs(3600));
            assert!(hour <= secs(2700) && hour >= secs(2475), "{hour:?}");
            let long = renewed_after(secs(43_200));
            assert!(long <= secs(42_300) && long >= secs(42_075), "{long:?}");
            assert_eq!(renewed_after(secs(30)), secs(1));
        }
        let some: std::collections::BTreeSet<_> =
            (0..20).map(|_| renewed_after(secs(3600))).collect();
        assert!(some.len() > 10, "many gateways do not ask at once");
    }

    #[test]
    fn nothing_prints_a_secret() {
        let credentials = Credentials {
            id: "id".to_owned(),
            secret: "hunter2".to_owned(),
            token: Some("token".to_owned()),
        };
        let environment = Environment(vec![("AWS_SECRET_ACCESS_KEY", Text::secret("hunter2"))]);
        let text = format!("{credentials:?} {credentials:#?} {environment:?}");
        assert!(!credentials.is_shown_in(&text));
        assert!(credentials.is_shown_in("a token, and more"));
        assert!(credentials.is_shown_in("hunter22"));
    }
}
