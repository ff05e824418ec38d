//! TLS of our own: certificate and key from PEM files, read again on SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Why certificate and key cannot be used, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsRefusal {
    /// The setting that is at fault.
    pub(crate) key: &'static str,
    pub(crate) message: String,
}

/// The certificate in use. Connections that are being made keep the one they began with.
#[derive(Clone)]
pub(crate) struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, TlsRefusal> {
        Ok(Self(Arc::new(RwLock::new(load(files)?))))
    }

    /// Takes the files as they are now; on failure the certificate stays as it was.
    pub(crate) fn reload(&self, files: &TlsFiles) -> Result<(), TlsRefusal> {
        let fresh = load(files)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }
}

/// Reads certificate and key, and checks that they belong together.
pub(crate) fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsRefusal> {
    let chain = read_chain(&files.cert)?;
    let key = read_key(&files.key)?;
    let refuse = |error: rustls::Error| TlsRefusal {
        key: "server.tls.cert",
        message: format!(
            "the certificate and server.tls.key cannot be used together ({error}): give the key \
             that the certificate was made for"
        ),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(refuse)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refuse)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsRefusal> {
    let refuse = |why: String| TlsRefusal {
        key: "server.tls.cert",
        message: format!(
            "{} {why}: give a PEM file with the certificate and its chain",
            file.display()
        ),
    };
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refuse(format!("cannot be read ({error})")))?;
    if chain.is_empty() {
        Err(refuse("holds no certificate".to_owned()))
    } else {
        Ok(chain)
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsRefusal> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| TlsRefusal {
        key: "server.tls.key",
        message: format!(
            "{} cannot be read ({error}): give a PEM file with the certificate's private key",
            file.display()
        ),
    })
}
