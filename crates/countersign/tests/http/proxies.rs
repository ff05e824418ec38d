//! What proxies say of a request: believed from those that are trusted, and from nobody else.

use std::net::IpAddr;

use crate::harness::{Client, PASSWORD, Service, Setup};
use http::StatusCode;
use serde_json::json;

/// A production service behind a trusted proxy at 10.0.0.1, and a client that comes through it.
async fn behind_a_proxy() -> (Service, Client) {
    behind(Setup::behind_a_proxy()).await
}

async fn behind(setup: Setup) -> (Service, Client) {
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut client = service.visitor();
    client.peer = "10.0.0.1:40000".parse().unwrap();
    (service, client)
}

/// The address that a login is recorded with, when the proxy forwards it with these headers.
async fn address_for(service: &Service, client: &Client, forwarded: &[&str]) -> IpAddr {
    let mut client = client.clone();
    let body = json!({"username": "ana", "password": PASSWORD});
    let mut call = client.post("/users/login").json(&body);
    call = call.header("x-forwarded-proto", "https");
    for value in forwarded {
        call = call.add_header("x-forwarded-for", value.as_bytes());
    }
    let answer = call.send().await.expect(StatusCode::OK);
    client.keep(&answer);
    service.session_of(&client).await.address.unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_client_is_the_first_from_the_right_that_is_no_proxy_of_ours() {
    let (service, client) = behind_a_proxy().await;
    for (forwarded, address) in [
        (&["9.9.9.9"][..], "9.9.9.9"),
        // Whatever stands further left, the client wrote itself.
        (&["1.2.3.4, 9.9.9.9"], "9.9.9.9"),
        (&["127.0.0.1, 9.9.9.9"], "9.9.9.9"),
        (&["unknown, 9.9.9.9"], "9.9.9.9"),
        (&["<script>, 9.9.9.9"], "9.9.9.9"),
        // Two proxies of ours, one behind the other.
        (&["1.2.3.4, 9.9.9.9, 10.0.0.2"], "9.9.9.9"),
        (&["9.9.9.9,10.0.0.2 ,  10.3.4.5"], "9.9.9.9"),
        // Two lines are one list, in order.
        (&["1.2.3.4", "9.9.9.9"], "9.9.9.9"),
        (&["9.9.9.9", "10.0.0.2"], "9.9.9.9"),
        (&["1.2.3.4, 9.9.9.9", "10.0.0.3, 10.0.0.2"], "9.9.9.9"),
    ] {
        let told = address_for(&service, &client, forwarded).await;
        assert_eq!(told, ip(address), "{forwarded:?}");
    }
    let many = vec!["1.2.3.4"; 999].join(", ") + ", 9.9.9.9";
    let told = address_for(&service, &client, &[&many]).await;
    assert_eq!(told, ip("9.9.9.9"));
}

#[tokio::test]
async fn addresses_are_read_in_every_form_that_proxies_write() {
    let (service, client) = behind_a_proxy().await;
    for (forwarded, address) in [
        ("9.9.9.9:51000", "9.9.9.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:51000", "2001:db8::7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        // One address has one form, however it came in.
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("[::ffff:9.9.9.9]:51000", "9.9.9.9"),
        ("::ffff:909:909", "9.9.9.9"),
        ("9.9.9.9, ::ffff:10.0.0.2", "9.9.9.9"),
    ] {
        let told = address_for(&service, &client, &[forwarded]).await;
        assert_eq!(told, ip(address), "{forwarded}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_leaves_the_proxy_itself() {
    let (service, client) = behind_a_proxy().await;
    for forwarded in [
        &[][..],
        &[""],
        &["unknown"],
        &["_hidden"],
        &["9.9.9.9, unknown"],
        &["9.9.9.9,"],
        &["9.9.9.9, "],
        &["9.9.9.9", ""],
        &["9.9.9"],
        &["09.9.9.9"],
        &["9.9.9.9.9"],
        &["9.9.9.9:99999"],
        &["9.9.9.9/24"],
        &["[2001:db8::7"],
        &["2001:db8::7]"],
        &["[9.9.9.9]x"],
        &["fe80::1%eth0"],
        &["9.9.9.9; DROP TABLE"],
        &["é"],
        &["for=9.9.9.9"],
        // Only our own proxies all the way.
        &["10.0.0.3, 10.0.0.2"],
    ] {
        let told = address_for(&service, &client, forwarded).await;
        assert_eq!(told, ip("10.0.0.1"), "{forwarded:?}");
    }
}

#[tokio::test]
async fn from_anybody_else_the_header_is_nothing() {
    // TLS ends here; nobody is trusted unless named.
    let (service, mut client) = behind(Setup::production()).await;
    for peer in [
        "192.0.2.7:1",
        "127.0.0.1:1",
        "10.0.0.1:1",
        "[2001:db8::1]:1",
    ] {
        client.peer = peer.parse().unwrap();
        let told = address_for(&service, &client, &["9.9.9.9"]).await;
        assert_eq!(told, client.peer.ip());
    }
    // A neighbour of the trusted network is not in it.
    let mut setup = Setup::behind_a_proxy();
    setup.http.tls_ends_here = true;
    let (service, mut client) = behind(setup).await;
    for peer in ["11.0.0.1:1", "9.255.255.255:1", "[::10.0.0.1]:1"] {
        client.peer = peer.parse().unwrap();
        let told = address_for(&service, &client, &["9.9.9.9"]).await;
        assert_eq!(told, client.peer.ip());
    }
}

#[tokio::test]
async fn an_ipv4_address_is_itself_on_a_socket_of_both_families() {
    let (service, mut client) = behind_a_proxy().await;
    client.peer = "[::ffff:10.0.0.1]:40000".parse().unwrap();
    let told = address_for(&service, &client, &["9.9.9.9"]).await;
    assert_eq!(told, ip("9.9.9.9"));
    let (service, mut client) = behind(Setup::production()).await;
    client.peer = "[::ffff:192.0.2.7]:40000".parse().unwrap();
    assert_eq!(address_for(&service, &client, &[]).await, ip("192.0.2.7"));
}

#[tokio::test]
async fn plain_http_is_refused_where_the_service_is_reached_by_https() {
    let (_service, client) = behind_a_proxy().await;
    let body = json!({"username": "ana", "password": PASSWORD});
    let login = || client.post("/users/login").json(&body);
    for proto in [
        "",
        "http",
        "HTTPS",
        "https, http",
        "https,https",
        " https",
        "wss",
    ] {
        let call = login().header("x-forwarded-proto", proto);
        call.send().await.refused(403, "https_required");
    }
    let answer = login().header("x-forwarded-proto", "https").send().await;
    answer.expect(StatusCode::OK);
    // Of two lines, neither may say http.
    for (one, other) in [("https", "http"), ("http", "https")] {
        let call = login().header("x-forwarded-proto", one);
        let call = call.add_header("x-forwarded-proto", other.as_bytes());
        call.send().await.refused(403, "https_required");
    }
    // Neither a redirect nor a page: the password has been sent in the clear already.
    for path in ["/users/csrf", "/docs", "/", "/.well-known/jwks.json"] {
        let call = client.get(path).header("accept", "text/html");
        let answer = call.send().await.refused(403, "https_required");
        assert_eq!(answer.header("location"), "");
    }
}

#[tokio::test]
async fn a_stranger_cannot_say_that_https_was_used() {
    let (_service, mut stranger) = behind_a_proxy().await;
    stranger.peer = "192.0.2.7:50000".parse().unwrap();
    for (name, value) in [
        ("x-forwarded-proto", "https"),
        ("forwarded", "proto=https"),
        ("x-forwarded-ssl", "on"),
        ("x-url-scheme", "https"),
        ("front-end-https", "on"),
    ] {
        let call = stranger.get("/users/csrf").header(name, value);
        call.send().await.refused(403, "https_required");
    }
    let target = "https://auth.example.org/users/csrf";
    let answer = stranger.get(target).send().await;
    answer.refused(403, "https_required");
}

#[tokio::test]
async fn where_tls_ends_here_no_proxy_is_asked() {
    let (_service, client) = behind(Setup::production()).await;
    let call = client
        .get("/users/csrf")
        .header("x-forwarded-proto", "http");
    call.send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_trusted_proxy_may_call_us_by_an_internal_name_and_a_stranger_may_not() {
    let (_service, mut client) = behind_a_proxy().await;
    let ask = async |client: &Client, host: &str| {
        let call = client.get("/users/csrf").header("host", host);
        call.header("x-forwarded-proto", "https").send().await
    };
    for host in ["countersign:8000", "10.9.8.7", "auth.example.org"] {
        ask(&client, host).await.expect(StatusCode::OK);
    }
    // Even then it is a name and no more.
    let answer = ask(&client, "a@b").await;
    answer.refused(400, "malformed_request");
    client.peer = "192.0.2.7:50000".parse().unwrap();
    let answer = ask(&client, "countersign:8000").await;
    answer.refused(421, "misdirected_request");
}

#[tokio::test]
async fn an_internal_name_makes_no_page_of_that_name_our_own() {
    let (_service, client) = behind_a_proxy().await;
    let call = client.post("/users/logout").header("host", "evil.test");
    let call = call.header("x-forwarded-proto", "https");
    let answer = call.on_page("https://evil.test").send().await;
    answer.refused(403, "origin_denied");
}

#[tokio::test]
async fn request_ids_are_taken_over_from_trusted_proxies_only() {
    let (_service, mut client) = behind_a_proxy().await;
    let id = async |client: &Client, told: &str| {
        let call = client.get("/users/csrf").header("x-request-id", told);
        let call = call.header("x-forwarded-proto", "https");
        call.send().await.header("x-request-id").to_owned()
    };
    for told in ["7f3c-1", "A.b_c-9", &"x".repeat(64)] {
        assert_eq!(id(&client, told).await, told);
    }
    for odd in [
        "a b",
        "a\tb",
        "a\"b",
        "<script>",
        "a=b",
        "é",
        &"x".repeat(65),
    ] {
        assert_made_up(&id(&client, odd).await);
    }
    client.peer = "192.0.2.7:50000".parse().unwrap();
    let (one, other) = (id(&client, "7f3c-1").await, id(&client, "7f3c-1").await);
    assert_made_up(&one);
    assert_made_up(&other);
    assert_ne!(one, other);
}

fn assert_made_up(id: &str) {
    assert_eq!(id.len(), 32, "{id}");
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[tokio::test]
async fn transport_security_is_not_told_over_plain_http() {
    let (_service, client) = behind_a_proxy().await;
    // RFC 6797, section 7.2.
    let header = "strict-transport-security";
    for (proto, status) in [("https", 200), ("http", 403), ("", 403)] {
        let call = client.get("/users/csrf").header("x-forwarded-proto", proto);
        let answer = call.send().await;
        assert_eq!(answer.status, status);
        assert_eq!(!answer.header(header).is_empty(), status == 200, "{proto}");
    }
}
