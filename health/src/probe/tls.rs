//! TLS as a client of the checked service: verified by the system's roots, or by nothing if the check says so.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::wire::Wire;

/// The two ways to look at a certificate; each is made when the first check needs it, for most agents need none.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    verified: OnceCell<Arc<ClientConfig>>,
    unverified: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// Shakes hands over `stream` as with `name`, and names the protocol that is to be spoken if one is given.
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        name: &str,
        skip_verify: bool,
        protocol: Option<&str>,
    ) -> Result<Wire, String> {
        let config = if skip_verify {
            self.unverified.get_or_try_init(|| std::future::ready(unverified())).await
        } else {
            self.verified.get_or_try_init(|| async { verified(system_roots().await) }).await
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
        Self { verified: OnceCell::new_with(Some(verified(roots).unwrap())), unverified: OnceCell::new() }
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

fn verified(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn unverified() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything(provider)));
    Ok(Arc::new(builder.with_no_client_auth()))
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
