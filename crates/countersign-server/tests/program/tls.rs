//! TLS of our own: TLS 1.2 and 1.3, HTTP/2 by ALPN, a new certificate on SIGHUP.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion, version,
};

use crate::harness::{JSON, PASSWORD, Place, Reply, connect, login_body, read_reply, request};

/// Makes a certificate for `localhost`, puts it where the settings expect it, and gives it.
fn new_certificate(place: &Place) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    place.write("cert.pem", &made.cert.pem());
    place.write("key.pem", &made.signing_key.serialize_pem());
    made.cert.der().clone()
}

fn place_with_tls() -> (Place, CertificateDer<'static>) {
    let place = Place::new();
    let certificate = new_certificate(&place);
    place.settings(&format!(
        "server.public_url = \"https://localhost:{}\"\n\
         server.tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}",
        place.port
    ));
    (place, certificate)
}

fn open(
    port: u16,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    protocol: &[u8],
) -> Result<StreamOwned<ClientConnection, TcpStream>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = connect(port);
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}

fn login(stream: &mut StreamOwned<ClientConnection, TcpStream>, port: u16) -> Reply {
    let host = format!("localhost:{port}");
    let text = request(
        "POST /users/login",
        &host,
        JSON,
        &login_body("ana", PASSWORD),
    );
    stream.write_all(text.as_bytes()).unwrap();
    read_reply(stream).unwrap()
}

#[test]
fn one_signs_in_over_tls_1_3_and_1_2() {
    let (place, certificate) = place_with_tls();
    place.add_user("ana");
    let _service = place.serve();
    for (version, expected) in [
        (&version::TLS13, ProtocolVersion::TLSv1_3),
        (&version::TLS12, ProtocolVersion::TLSv1_2),
    ] {
        let mut stream = open(place.port, &certificate, version, b"http/1.1").unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(expected));
        let reply = login(&mut stream, place.port);
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(
            reply.head.contains("__Host-Http-refreshtoken="),
            "{reply:?}"
        );
        assert!(reply.head.contains("; Secure"), "{reply:?}");
    }
    let stream = open(place.port, &certificate, &version::TLS13, b"h2").unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn plain_http_gets_no_answer() {
    let (place, _) = place_with_tls();
    let _service = place.serve();
    let mut stream = connect(place.port);
    let host = format!("localhost:{}", place.port);
    stream
        .write_all(request("GET /docs", &host, "", "").as_bytes())
        .unwrap();
    assert!(read_reply(&mut stream).is_none());
}

#[test]
fn hangup_takes_the_new_certificate() {
    let (place, old) = place_with_tls();
    let service = place.serve();
    assert!(open(place.port, &old, &version::TLS13, b"http/1.1").is_ok());
    let new = new_certificate(&place);
    assert!(open(place.port, &new, &version::TLS13, b"http/1.1").is_err());
    service.signal("-HUP");
    service.await_log("reloaded");
    assert!(open(place.port, &new, &version::TLS13, b"http/1.1").is_ok());

    // One that cannot be leaves the last good one in place.
    place.write("cert.pem", "nothing");
    service.signal("-HUP");
    service.await_log("reload_refused");
    assert!(open(place.port, &new, &version::TLS13, b"http/1.1").is_ok());
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (place, _) = place_with_tls();
    let first = place.read("cert.pem");
    new_certificate(&place);
    place.write("cert.pem", &first);
    let said = place.run(&["config", "check"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.stderr
            .contains("the key that the certificate was made for"),
        "{said:?}"
    );
}
