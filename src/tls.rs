//! TLS: what is trusted, and at what time.
//!
//! Trusted is what the configuration names; else what the system trusts, together with what browsers do,
//! so that neither an old system nor a network's own authority is in the way.
//!
//! Certificates are checked against the time that its user knows. A board that has just booted without
//! a clock knows none: only while that time is from before 2024, a certificate is not refused for being
//! valid later only. All else is checked: names, signatures, and what has ended.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct};
pub use rustls::{ClientConnection, StreamOwned};
use rustls::{Error, RootCertStore, SignatureScheme};

use crate::clock::WALL_KNOWN_MS;
use crate::storage::read_text;

/// The most that is read of a file with certificates, in bytes.
const PEM_SIZE_MAX: u64 = 4 << 20;
/// Where systems keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The certificates of a chain that may be valid later only.
const CHAIN_MAX: usize = 8;

/// Milliseconds since 1970, as the user of connections knows it.
type Now = dyn Fn() -> u64 + Send + Sync;

/// Puts TLS on connections.
pub struct Tls(Arc<ClientConfig>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trusts what `ca_file` has, if there is one, and shows a certificate with its key, if there is one;
    /// else says what is wrong with these files.
    pub fn new(
        ca_file: Option<&str>,
        identity: Option<(&str, &str)>,
        now_ms: Box<Now>,
    ) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(ca_file)?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let inner = inner.build().map_err(|error| error.to_string())?;
        let verifier = Arc::new(Verifier { inner, now_ms });
        let builder = builder(provider)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let text = read(key)?;
                let found = PrivateKeyDer::from_pem_slice(text.as_bytes());
                let found = found.map_err(|_| format!("{key}: there is no private key in it"))?;
                let config = builder.with_client_auth_cert(chain, found);
                config.map_err(|error| format!("{certificate} and {key}: {error}"))?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// The begin of a connection to a host of this name or address, which it must prove.
    pub fn begin(&self, host: &str) -> io::Result<ClientConnection> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| {
            let text = format!("{host:?} is not a host's name");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(provider: Arc<CryptoProvider>) -> Result<Builder, String> {
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    builder.map_err(|error| error.to_string())
}

fn roots(ca_file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        roots.add_parsable_certificates(certificates(path)?);
        return match roots.is_empty() {
            true => Err(format!("{path}: there is no certificate in it")),
            false => Ok(roots),
        };
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let mut system = SYSTEM_ROOTS
        .iter()
        .filter_map(|path| certificates(path).ok());
    if let Some(found) = system.next() {
        roots.add_parsable_certificates(found);
    }
    Ok(roots)
}

fn read(path: &str) -> Result<String, String> {
    read_text(Path::new(path), PEM_SIZE_MAX).map_err(|error| format!("{path}: {error}"))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{path}: there is no certificate in it")),
    }
}

/// Checks certificates at the time that its user knows.
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    now_ms: Box<Now>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let now_ms = (self.now_ms)();
        let at = |time| {
            self.inner
                .verify_server_cert(end_entity, intermediates, name, ocsp, time)
        };
        let mut verified = at(UnixTime::since_unix_epoch(Duration::from_millis(now_ms)));
        if now_ms >= WALL_KNOWN_MS {
            return verified;
        }
        for _ in 0..CHAIN_MAX {
            let Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) = verified
            else {
                break;
            };
            verified = at(not_before);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
