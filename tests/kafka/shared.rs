//! One broker for all tests, one test after the other: to start one takes longer than most tests.
//!
//! It listens without TLS; behind a link; and over TLS for passwords and for certificates. The certificates
//! are those of `tests/fixtures/tls`; the server's is for `localhost`. Whoever has no password may do
//! everything.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::broker::{Broker, free_port};
use super::proxy::Proxy;

pub struct Shared {
    pub broker: Broker,
    /// The link. Clients that come by it are told to come by it again.
    pub proxy: Proxy,
    /// Where it asks for a password, over TLS.
    pub password: u16,
    /// Where it wants a certificate, over TLS.
    pub certificate: u16,
}

/// The broker, for one test at a time, as if it were new but for what lies in other topics.
pub struct Guard(MutexGuard<'static, Option<Shared>>);

impl std::ops::Deref for Guard {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut Shared {
        self.0.as_mut().unwrap()
    }
}

/// One test at a time is enough for a small machine. `None`: there is no Kafka here.
pub fn broker() -> Option<Guard> {
    static SHARED: Mutex<Option<Shared>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *shared {
        None => *shared = Some(start()?),
        Some(shared) => {
            shared.proxy.heal();
            if !shared.broker.is_running() {
                shared.broker.restart();
            }
        }
    }
    Some(Guard(shared))
}

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

fn start() -> Option<Shared> {
    let proxy = Proxy::start();
    let [plain, link, password, certificate, controller] = [(); 5].map(|()| free_port());
    // Lines within a property.
    let read = |name| {
        std::fs::read_to_string(fixture(name))
            .unwrap()
            .replace('\n', "\\n")
    };
    let listeners = |link: u16| {
        format!(
            "PLAINTEXT://127.0.0.1:{plain},LINK://127.0.0.1:{link},SASL_SSL://localhost:{password},\
             SSL://localhost:{certificate}"
        )
    };
    let module = "org.apache.kafka.common.security";
    let more = format!(
        "controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners={}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINK:PLAINTEXT,\
         SASL_SSL:SASL_SSL,SSL:SSL\n\
         ssl.keystore.type=PEM\nssl.keystore.key={}\nssl.keystore.certificate.chain={}\n\
         ssl.truststore.type=PEM\nssl.truststore.location={}\n\
         listener.name.ssl.ssl.client.auth=required\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=\
         {module}.plain.PlainLoginModule required user_plain=\"plain-password\";\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
         {module}.scram.ScramLoginModule required;\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\nallow.everyone.if.no.acl.found=true",
        listeners(link),
        listeners(proxy.port),
        read("server.key"),
        read("server.pem"),
        fixture("ca.pem").display(),
    );
    let user = "SCRAM-SHA-512=[name=scram,password=scram-password]";
    let broker = Broker::start(plain, &more, &["--add-scram", user])?;
    proxy.set_target(link);
    Some(Shared {
        broker,
        proxy,
        password,
        certificate,
    })
}
