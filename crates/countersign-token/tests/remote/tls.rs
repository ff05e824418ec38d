//! Over https, from an issuer that is who it says, and from one that is not.

use std::sync::Arc;

use countersign_token::remote::{FetchError, StartError};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::actors::{ANAS_SESSION, Issuer, ended, outcome, within_a_second};

/// An issuer with a certificate for `host` (it is reached as `localhost`), and the certificate.
async fn issuer_known_as(host: &str) -> (Issuer, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let issuer = Issuer::with_tls(TlsAcceptor::from(Arc::new(config))).await;
    (issuer, cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_with_a_trusted_certificate_is_followed() {
    let (issuer, certificate) = issuer_known_as("localhost").await;
    let api = issuer.api().root_certificates_pem(certificate);
    let api = api.start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &ana), "accepted");
    issuer.feed.lists(&ended(ANAS_SESSION));
    within_a_second(|| outcome(&api, &ana) == "session_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_nobody_vouches_for_is_not_asked() {
    let (issuer, certificate) = issuer_known_as("elsewhere.test").await;
    let (_, of_another) = issuer_known_as("localhost").await;
    for trusted in [certificate, of_another] {
        let api = issuer.api().root_certificates_pem(trusted);
        let refused = api.start().await.unwrap_err();
        assert!(
            matches!(
                &refused,
                StartError::Keys {
                    why: FetchError::Unreachable(why),
                    ..
                } if why.contains("certificate")
            ),
            "{refused}"
        );
    }
    assert_eq!(issuer.keys.times_asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_without_certificates_is_no_trust() {
    let (issuer, _) = issuer_known_as("localhost").await;
    for nothing in ["", "localhost", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        let api = issuer.api().root_certificates_pem(nothing);
        let refused = api.start().await.unwrap_err();
        assert!(
            matches!(refused, StartError::RootCertificates(_)),
            "{refused}"
        );
    }
}
