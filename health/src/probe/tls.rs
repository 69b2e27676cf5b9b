//! TLS as a client of the checked service: verified by the system's roots or the agent's, or by nothing if the check says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::wire::Wire;
use crate::error::TlsError;

/// The two ways to look at a certificate; each is made when the first check needs it, for most agents need none.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    /// Name expected where a check names none; empty is the host that is asked.
    server_name: String,
    verified: OnceCell<Arc<ClientConfig>>,
    unverified: OnceCell<Arc<ClientConfig>>,
}

/// TLS of this agent, lent to its checks.
#[derive(Debug, Clone)]
pub struct AgentTls {
    verified: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
    server_name: String,
}

impl AgentTls {
    /// Reads roots from PEM files and directories of them (without any: the system's), and the certificate and key with which
    /// this agent introduces itself.
    pub fn load(roots: &[PathBuf], identity: Option<(&Path, &Path)>, server_name: String) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for path in roots {
            for path in files(path)? {
                for root in certificates(&path)? {
                    store.add(root)?;
                }
            }
        }
        if roots.is_empty() {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let identity = match identity {
            Some((chain, key)) => {
                let read = PrivateKeyDer::from_pem_file(key);
                let read = read.map_err(|error| TlsError::Pem { path: key.to_owned(), fault: error.to_string() })?;
                Some((certificates(chain)?, read))
            }
            None => None,
        };
        let again = identity.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
        Ok(Self { verified: verified(store, identity)?, unverified: unverified(again)?, server_name })
    }
}

/// Who introduces itself, and how it proves that.
type Identity = Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>;

/// The file, or the files in the directory, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>, TlsError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listed = std::fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut found: Vec<PathBuf> = listed.map_err(|source| TlsError::Directory { path: path.to_owned(), source })?;
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

/// All certificates of a file; there must be one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |fault: String| TlsError::Pem { path: path.to_owned(), fault };
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|error: rustls::pki_types::pem::Error| fault(error.to_string()))?;
    if all.is_empty() { Err(fault("no certificate is in it".to_owned())) } else { Ok(all) }
}

impl Tls {
    /// As the agent is known.
    pub(crate) fn of_agent(own: AgentTls) -> Self {
        Self {
            server_name: own.server_name,
            verified: OnceCell::new_with(Some(own.verified)),
            unverified: OnceCell::new_with(Some(own.unverified)),
        }
    }

    /// Shakes hands over `stream` with who proves to be `name` (if that is empty, as the agent's TLS says or `host`), and names
    /// the protocol that is to be spoken if one is given.
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        name: &str,
        host: &str,
        skip_verify: bool,
        protocol: Option<&str>,
    ) -> Result<Wire, String> {
        let name = [name, &self.server_name].into_iter().find(|name| !name.is_empty()).unwrap_or(host);
        let config = if skip_verify {
            self.unverified.get_or_try_init(|| std::future::ready(unverified(None))).await
        } else {
            self.verified.get_or_try_init(|| async { verified(system_roots().await, None) }).await
        };
        let config = config.map_err(|error| format!("tls: {error}"))?;
        let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("tls: {name:?} is no server name"))?;
        let protocols = protocol.map(|protocol| protocol.as_bytes().to_vec()).into_iter().collect();
        let shaken = TlsConnector::from(config.clone()).with_alpn(protocols).connect(name, stream).await;
        let stream = shaken.map_err(|error| match error.get_ref() {
            Some(inner) => format!("tls: {inner}"),
            None => format!("tls: {}", crate::text::system(&error)),
        })?;
        Ok(Wire::new(stream))
    }

    #[cfg(test)]
    pub(super) fn trusting(root: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        Self { verified: OnceCell::new_with(Some(verified(roots, None).unwrap())), ..Self::default() }
    }
}

/// Reads the system's roots; without any, every certificate is refused as of an unknown issuer.
async fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Ok(found) = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await {
        for error in &found.errors {
            tracing::warn!(%error, "a root certificate of the system cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
    }
    if roots.is_empty() {
        tracing::warn!("no root certificates found: checks over TLS fail unless they set tls_skip_verify");
    }
    roots
}

fn verified(roots: RootCertStore, identity: Identity) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
    introduced(builder.with_root_certificates(roots), identity)
}

fn unverified(identity: Identity) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    introduced(builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything(provider))), identity)
}

fn introduced(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Identity,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    Ok(Arc::new(match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    }))
}

/// Takes any certificate: the check asked for it. Whoever may be anybody need not prove to hold a key either.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
