//! TLS to the database.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use crate::harness::{assert_unavailable, message, open, options, signed_in_ana};
use crate::server::Server;
use countersign_sql::PostgresStore;

/// Writes a certificate of its own signature for a name, and its key.
fn write_certificate(directory: &Path, name: &str) {
    let key = KeyPair::generate().expect("a certificate");
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .expect("a certificate")
        .self_signed(&key)
        .expect("a certificate");
    fs::write(directory.join("server.crt"), certificate.pem()).expect("a certificate");
    fs::write(directory.join("server.key"), key.serialize_pem()).expect("a certificate");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_server_is_spoken_to_in_private_once_it_proves_its_name() {
    let elsewhere = tempfile::tempdir().unwrap();
    write_certificate(elsewhere.path(), "localhost");
    let server = Server::with_certificate(|directory| write_certificate(directory, "localhost"));
    let by_name = server.url("postgres").replace("127.0.0.1", "localhost");
    let with = |url: &str, parameters: &str| options(&format!("{url}?{parameters}"));
    let root = |directory: &Path| format!("sslrootcert={}/server.crt", directory.display());
    let own = root(server.certificate_directory());

    // The server takes nothing in the open.
    let plain = PostgresStore::open(&options(&by_name)).await;
    assert_unavailable(&plain.map(|_| ()));
    for good in ["sslmode=require", "sslmode=prefer", &own] {
        open(&with(&by_name, good)).await;
    }
    let store = open(&with(&by_name, &format!("sslmode=verify-full&{own}"))).await;
    signed_in_ana(&store).await;
    for (url, bad, why) in [
        // Another authority, the system's, and another name.
        (&by_name, root(elsewhere.path()), "invalid peer certificate"),
        (&by_name, "sslmode=verify-full".to_owned(), "certificate"),
        (&server.url("postgres"), own.clone(), "certificate"),
        (
            &by_name,
            "sslrootcert=/nowhere.pem".to_owned(),
            "/nowhere.pem",
        ),
    ] {
        let refused = PostgresStore::open(&with(url, &bad)).await.map(|_| ());
        assert_unavailable(&refused);
        let told = message(refused);
        assert!(told.contains(why), "{why} is not in {told}");
    }
}

/// There is no server at all.
#[tokio::test]
async fn it_is_told_which_server_was_not_reached_and_why_without_the_password() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let port = free.unwrap().port();
    let url = format!("postgres://ana:CANARY@127.0.0.1:{port}/accounts");
    let refused = PostgresStore::open(&options(&url)).await.map(|_| ());
    assert_unavailable(&refused);
    let told = message(refused);
    for part in [
        &format!("127.0.0.1:{port} cannot be reached"),
        "Connection refused",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(!told.contains("CANARY"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_server_without_tls_is_refused_where_it_is_wanted() {
    let server = Server::new();
    let url = server.url("postgres");
    for wanted in ["sslmode=require", "sslmode=verify-full"] {
        let refused = PostgresStore::open(&options(&format!("{url}?{wanted}"))).await;
        assert_unavailable(&refused.map(|_| ()));
    }
    open(&options(&format!("{url}?sslmode=prefer"))).await;
    open(&options(&server.socket_url("postgres"))).await;
}
