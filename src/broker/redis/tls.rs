//! How servers prove who they are, and this instance to them, where TLS is spoken.

use std::sync::Arc;

use fred::types::config::{TlsConfig, TlsConnector};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::{Pem, RedisConfig};

/// What connections are made with; `None` where nothing is configured but what the system trusts.
pub(super) fn tls(config: &RedisConfig) -> Result<Option<TlsConfig>, String> {
    if config.ca.is_none() && config.client_cert.is_none() {
        return Ok(None);
    }
    if config.url.as_ref().is_some_and(|url| !url.is_encrypted()) {
        return Err("redis.ca or redis.client_cert is set, and redis.url does not begin with rediss: nothing would be encrypted".to_owned());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in
        config.ca.as_ref().map(|pem| certificates(pem, "redis.ca")).transpose()?.into_iter().flatten()
    {
        roots.add(certificate).map_err(|error| format!("redis.ca: {error}"))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let client = match (&config.client_cert, &config.client_key) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose())
                .map_err(|_| "redis.client_key: it holds no private key as PEM".to_owned())?;
            builder
                .with_client_auth_cert(certificates(certificate, "redis.client_cert")?, key)
                .map_err(|error| format!("redis.client_cert: {error}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Some(TlsConfig::from(TlsConnector::from(client))))
}

fn certificates(pem: &Pem, name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{name}: it holds no certificate as PEM")),
    }
}
