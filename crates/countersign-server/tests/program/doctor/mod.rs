//! The doctor, before a service that is well, and behind a proxy that does one thing wrong.

mod proxy;

use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;

use self::proxy::{Fault, Identity};
use crate::harness::{PASSWORD, Place, Said, Service, free_port};

/// A service, the proxy before it, and what the doctor is told.
struct Practice {
    place: Place,
    _service: Service,
    url: String,
}

/// The page, on another port of the same host.
const PAGE: &str = "http://localhost:3000";

impl Practice {
    /// The service is well set up, and behind a proxy with this fault.
    fn with(fault: Fault) -> Self {
        Self::set_up(fault, &format!("cors.origins = [\"{PAGE}\"]"))
    }

    fn set_up(fault: Fault, more: &str) -> Self {
        let place = Place::new();
        let port = free_port();
        let url = format!("http://localhost:{port}");
        place.settings(&format!("server.public_url = \"{url}\"\n{more}"));
        place.add_user("ana");
        let service = place.serve();
        proxy::stand(port, place.port, fault, None);
        Self {
            place,
            _service: service,
            url,
        }
    }

    fn examined(&self) -> Examined {
        Examined::from(self.place.run(&["doctor", "--json"]))
    }

    /// With an API that the page shows its token to.
    fn examined_with_api(&self, api: &str, more: &[&str]) -> Examined {
        let words = ["doctor", "--json", "--page", PAGE, "--api", api];
        let words = [&words[..], &["--api-path", "/users/user"], more].concat();
        Examined::from(self.place.run(&words))
    }

    fn examined_as(&self, username: &str) -> Examined {
        let words = [
            "doctor",
            "--json",
            "--username",
            username,
            "--password-stdin",
        ];
        Examined::from(self.place.run_with_input(&words, PASSWORD))
    }
}

/// What the doctor found.
struct Examined {
    status: Option<i32>,
    report: Value,
    stderr: String,
}

impl From<Said> for Examined {
    fn from(said: Said) -> Self {
        let report = serde_json::from_str(&said.stdout);
        Self {
            status: said.status,
            report: report.unwrap_or_else(|error| panic!("{error}: {said:?}")),
            stderr: said.stderr,
        }
    }
}

impl Examined {
    /// The checks that did not pass, and how.
    fn complaints(&self) -> Vec<(String, String)> {
        let checks = self.report["checks"].as_array().unwrap();
        checks
            .iter()
            .map(|check| {
                (
                    check["check"].as_str().unwrap().to_owned(),
                    check["outcome"].as_str().unwrap().to_owned(),
                )
            })
            .filter(|(_, outcome)| outcome != "pass" && outcome != "skip")
            .collect()
    }

    fn find(&self, name: &str) -> &Value {
        let checks = self.report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["check"] == name);
        found.unwrap_or_else(|| panic!("{name} is not in {:#}", self.report))
    }

    /// Asserts that these checks did not pass, in this way, and that all others did.
    #[track_caller]
    fn complains_of(&self, expected: &[(&str, &str)]) {
        let complaints = self.complaints();
        let complaints: Vec<_> = complaints
            .iter()
            .map(|(check, outcome)| (check.as_str(), outcome.as_str()))
            .collect();
        assert_eq!(complaints, expected, "{:#}{}", self.report, self.stderr);
        let has_failed = expected.iter().any(|(_, outcome)| *outcome == "fail");
        assert_eq!(self.status, Some(i32::from(has_failed)), "{}", self.stderr);
    }
}

#[test]
fn a_service_that_is_well_is_found_well() {
    let practice = Practice::with(Fault::None);
    practice.examined().complains_of(&[]);
}

#[test]
fn whoever_signs_in_for_it_is_signed_out_again() {
    let practice = Practice::with(Fault::None);
    let examined = practice.examined_as("ana");
    examined.complains_of(&[]);
    for check in [
        "journey.login",
        "journey.token",
        "journey.refresh",
        "journey.logout",
    ] {
        assert_eq!(examined.find(check)["outcome"], "pass");
    }
    let sessions: Value =
        serde_json::from_str(&practice.place.done(&["session", "list", "--json"])).unwrap();
    assert_eq!(sessions.as_array().map(Vec::len), Some(0), "{sessions}");
    assert!(!examined.report.to_string().contains(PASSWORD));

    practice
        .examined_as("nobody")
        .complains_of(&[("journey.login", "fail")]);
}

#[test]
fn what_does_not_arrive_at_the_service_is_named() {
    for (lost, complaints) in [
        (
            "origin",
            &[("cors.listed_origin", "fail"), ("way.origin", "fail")][..],
        ),
        ("authorization", &[("way.authorization", "fail")]),
        (
            "cookie",
            &[("way.cookie", "fail"), ("way.two_cookies", "warn")],
        ),
        ("content-type", &[("way.login", "fail")]),
    ] {
        let practice = Practice::with(Fault::LoseOfRequest(lost));
        practice.examined().complains_of(complaints);
    }
}

#[test]
fn a_csrf_header_that_does_not_arrive_is_named_to_those_who_sign_in() {
    let practice = Practice::with(Fault::LoseOfRequest("x-csrftoken"));
    practice.examined().complains_of(&[]);
    let examined = practice.examined_as("ana");
    examined.complains_of(&[("journey.refresh", "fail"), ("journey.logout", "fail")]);
    let remedy = examined.find("journey.refresh")["do"].as_str().unwrap();
    assert!(remedy.contains("X-CSRFToken"), "{remedy}");
}

#[test]
fn what_does_not_arrive_at_the_browser_is_named() {
    for (lost, complaints) in [
        (
            "access-control-allow-credentials",
            &[
                ("cors.credentials", "fail"),
                ("cors.preflight_login", "fail"),
                ("cors.preflight_refresh", "fail"),
                ("cors.preflight_user", "fail"),
            ][..],
        ),
        (
            "access-control-expose-headers",
            &[("cors.exposed_headers", "warn")],
        ),
        ("vary", &[("cors.vary", "fail")]),
        ("set-cookie", &[("cookies.arrive", "fail")]),
        (
            "cache-control",
            &[("service.keys", "warn"), ("service.caches", "fail")],
        ),
    ] {
        let practice = Practice::with(Fault::LoseOfAnswer(lost));
        practice.examined().complains_of(complaints);
    }
}

#[test]
fn what_a_proxy_adds_or_changes_is_named() {
    let date = "date: Tue, 24 Nov 2020 10:00:00 GMT\r\nx-was-date: ";
    for (fault, complaints, words) in [
        (
            Fault::Add("Access-Control-Allow-Origin: *"),
            &[
                ("cors.listed_origin", "fail"),
                ("cors.unlisted_origin", "fail"),
                ("cors.preflight_login", "fail"),
                ("cors.preflight_refresh", "fail"),
                ("cors.preflight_user", "fail"),
            ][..],
            "2 headers Access-Control-Allow-Origin",
        ),
        (
            Fault::Fold,
            &[("cookies.arrive", "fail")],
            "in one Set-Cookie",
        ),
        (
            Fault::Add("Set-Cookie: refreshtoken=planted; Path=/users; HttpOnly"),
            &[("cookies.arrive", "fail")],
            "refreshtoken arrives twice",
        ),
        (
            Fault::Rewrite("HttpOnly; ", ""),
            &[("cookies.refresh", "fail")],
            "HttpOnly is missing",
        ),
        (
            Fault::Rewrite("Path=/;", "Path=/api;"),
            &[("cookies.refresh", "fail"), ("cookies.csrf", "fail")],
            "Path is not /",
        ),
        (
            Fault::Add("Age: 40"),
            &[("service.caches", "fail")],
            "out of a cache",
        ),
        (
            Fault::Rewrite("date: ", date),
            &[("service.clock", "fail")],
            "behind ours",
        ),
        (
            Fault::AnswerOptions("HTTP/1.1 405 Not Allowed\r\nContent-Length: 0\r\n\r\n"),
            &[
                ("cors.preflight_login", "fail"),
                ("cors.preflight_refresh", "fail"),
                ("cors.preflight_user", "fail"),
            ],
            "pass OPTIONS on",
        ),
    ] {
        let practice = Practice::with(fault);
        let examined = practice.examined();
        examined.complains_of(complaints);
        let first = examined.find(complaints[0].0).to_string();
        assert!(first.contains(words), "{words} is not in {first}");
    }
}

#[test]
fn a_page_that_is_not_listed_is_found_in_the_settings_and_at_the_service() {
    let practice = Practice::set_up(Fault::None, "cors.origins = [\"http://localhost:5173\"]");
    let said = practice.place.run(&["doctor", "--json", "--page", PAGE]);
    let examined = Examined::from(said);
    examined.complains_of(&[
        ("settings.cors_origins", "fail"),
        ("cors.listed_origin", "fail"),
    ]);
    let lines = examined.report["settings"].as_str().unwrap();
    assert!(
        lines.contains(&format!("origins = [\"{PAGE}\"]")),
        "{lines}"
    );
    assert!(lines.contains(&practice.url), "{lines}");
}

#[test]
fn two_names_of_this_machine_are_told_apart() {
    let practice = Practice::set_up(Fault::None, "cors.origins = [\"http://127.0.0.1:3000\"]");
    let said = practice
        .place
        .run(&["doctor", "--json", "--page", "http://127.0.0.1:3000"]);
    let examined = Examined::from(said);
    let remedy = examined.find("origins.distance")["do"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(remedy.contains(&practice.url), "{remedy}");
}

/// A second service stands for an API: it wants a token too, and lists the page.
#[test]
fn an_api_that_is_well_is_found_well() {
    let (practice, api) = (Practice::with(Fault::None), Practice::with(Fault::None));
    let examined = practice.examined_with_api(&api.url, &[]);
    examined.complains_of(&[]);
    for check in [
        "api.way",
        "api.listed_origin",
        "api.exposed_headers",
        "api.vary",
        "api.unlisted_origin",
        "api.preflight_read",
        "api.preflight_write",
        "api.refusal",
        "api.authorization",
    ] {
        assert_eq!(examined.find(check)["outcome"], "pass", "{check}");
    }
}

#[test]
fn what_a_page_would_not_get_from_an_api_is_named() {
    const NO_PREFLIGHT: &[(&str, &str)] = &[
        ("api.preflight_read", "fail"),
        ("api.preflight_write", "fail"),
    ];
    let practice = Practice::with(Fault::None);
    for (fault, complaints, words) in [
        (
            Fault::LoseOfAnswer("vary"),
            &[("api.vary", "fail")][..],
            "Vary",
        ),
        (
            Fault::LoseOfAnswer("access-control-expose-headers"),
            &[("api.exposed_headers", "warn")],
            "www-authenticate",
        ),
        (
            Fault::LoseOfAnswer("www-authenticate"),
            &[("api.refusal", "warn")],
            "WWW-Authenticate: Bearer",
        ),
        (
            Fault::LoseOfRequest("authorization"),
            &[("api.authorization", "fail")],
            "Authorization does not arrive",
        ),
        (
            Fault::LoseOfRequest("origin"),
            &[
                ("api.listed_origin", "fail"),
                NO_PREFLIGHT[0],
                NO_PREFLIGHT[1],
            ],
            "refusals too",
        ),
        (
            Fault::AnswerOptions("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
            NO_PREFLIGHT,
            "before they show one",
        ),
        (
            Fault::Rewrite("x-csrftoken", "x-other"),
            &[("api.preflight_write", "fail")],
            "does not allow x-csrftoken",
        ),
        (
            Fault::Rewrite("HTTP/1.1 401 Unauthorized", "HTTP/1.1 403 Forbidden"),
            &[("api.refusal", "fail")],
            "that is when the client refreshes",
        ),
        (
            Fault::Rewrite(
                "HTTP/1.1 401",
                "HTTP/1.1 301 Moved\r\nlocation: /en/\r\nx-was: 401",
            ),
            &[("api.way", "fail")],
            "--api-path",
        ),
    ] {
        let api = Practice::with(fault);
        let examined = practice.examined_with_api(&api.url, &[]);
        examined.complains_of(complaints);
        let first = examined.find(complaints[0].0).to_string();
        assert!(first.contains(words), "{words} is not in {first}");
    }
}

#[test]
fn an_api_of_http_behind_tls_is_named_and_so_is_one_that_is_not_there() {
    let practice = Practice::with(Fault::None);
    let (secure, identity) = Secure::new();
    let port = free_port();
    secure.place.settings("");
    let _service = secure.place.serve();
    let sent_away = "HTTP/1.1 301 Moved\r\nlocation: http://localhost/users/user\r\nx-was: 401";
    let fault = Fault::Rewrite("HTTP/1.1 401", sent_away);
    proxy::stand(port, secure.port, fault, Some(identity));
    let url = format!("https://localhost:{port}");
    let authority = secure.place.path("cert.pem").display().to_string();

    let examined = practice.examined_with_api(&url, &["--ca", &authority]);
    examined.complains_of(&[("api.way", "fail")]);
    let way = examined.find("api.way").to_string();
    assert!(way.contains("X-Forwarded-Proto: https"), "{way}");

    let (other, _) = Secure::new();
    let stranger = other.place.path("cert.pem").display().to_string();
    let examined = practice.examined_with_api(&url, &["--ca", &stranger]);
    examined.complains_of(&[("api.way", "fail")]);
    let way = examined.find("api.way").to_string();
    assert!(way.contains("TLS"), "{way}");

    let nowhere = format!("http://localhost:{}", free_port());
    let examined = practice.examined_with_api(&nowhere, &[]);
    examined.complains_of(&[("api.way", "fail")]);
}

#[test]
fn nobody_there_is_said_in_one_line() {
    let place = Place::new();
    let port = free_port();
    let url = format!("http://localhost:{port}");
    let said = place.run(&["doctor", "--json", "--url", &url]);
    let examined = Examined::from(said);
    assert_eq!(examined.find("way.service")["outcome"], "fail");
    assert_eq!(examined.status, Some(1));
}

#[test]
fn a_password_is_not_sent_in_the_clear() {
    let place = Place::new();
    let words = [
        "doctor",
        "--url",
        "http://auth.example.test",
        "--username",
        "ana",
        "--password-stdin",
    ];
    let said = place.run_with_input(&words, PASSWORD);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (Some(2), ""),
        "{said:?}"
    );
    assert!(said.stderr.contains("https"), "{said:?}");
}

#[test]
fn every_listed_page_is_looked_at() {
    let practice = Practice::set_up(
        Fault::Rewrite(
            "allow-origin: http://localhost:4000",
            "allow-origin: http://localhost:3000",
        ),
        "cors.origins = [\"http://localhost:3000\", \"http://localhost:4000\"]",
    );
    practice
        .examined()
        .complains_of(&[("cors.listed_origin", "fail")]);
}

#[test]
fn people_are_told_in_lines() {
    let practice = Practice::with(Fault::LoseOfAnswer("vary"));
    let said = practice.place.run(&["doctor"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stdout.contains("FAIL  cors.vary"), "{}", said.stdout);
    assert!(
        said.stdout
            .contains("-> have the proxy leave Vary as it is"),
        "{}",
        said.stdout
    );
    assert!(
        said.stderr.contains("one check has failed"),
        "{}",
        said.stderr
    );
}

/// A service that is reached by https, with TLS of its own or behind a proxy, and who signed for it.
struct Secure {
    place: Place,
    port: u16,
}

const SECURE_PAGE: &str = "https://localhost:3000";

impl Secure {
    fn new() -> (Self, Identity) {
        let place = Place::new();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        place.write("cert.pem", &made.cert.pem());
        place.write("key.pem", &made.signing_key.serialize_pem());
        let identity = Identity {
            certificate: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        };
        let port = place.port;
        (Self { place, port }, identity)
    }

    fn settings(&self, port: u16, more: &str) {
        let text = format!(
            "server.public_url = \"https://localhost:{port}\"\ncors.origins = [\"{SECURE_PAGE}\"]\n{more}"
        );
        self.place.settings(&text);
    }

    fn examined(&self) -> Examined {
        Examined::from(self.place.run(&["doctor", "--json", "--ca", "cert.pem"]))
    }
}

#[test]
fn tls_of_its_own_is_well() {
    let (secure, _) = Secure::new();
    secure.settings(
        secure.port,
        "server.tls = { cert = \"cert.pem\", key = \"key.pem\" }",
    );
    let _service = secure.place.serve();
    let examined = secure.examined();
    examined.complains_of(&[]);
    for check in ["service.certificate", "service.hsts", "cookies.refresh"] {
        assert_eq!(examined.find(check)["outcome"], "pass");
    }
}

#[test]
fn a_certificate_of_nobody_known_is_refused() {
    let (secure, _) = Secure::new();
    secure.settings(
        secure.port,
        "server.tls = { cert = \"cert.pem\", key = \"key.pem\" }",
    );
    let _service = secure.place.serve();
    let (other, _) = Secure::new();
    let authority = other.place.path("cert.pem").display().to_string();
    let said = secure.place.run(&["doctor", "--json", "--ca", &authority]);
    let examined = Examined::from(said);
    examined.complains_of(&[("way.service", "fail")]);
    let seen = examined.find("way.service")["seen"].as_str().unwrap();
    assert!(seen.contains("TLS"), "{seen}");
}

#[test]
fn http_behind_tls_is_named_with_the_way_out() {
    for (fault, complaints) in [
        (Fault::None, &[("way.service", "fail")][..]),
        (Fault::TellOfTls, &[]),
    ] {
        let (secure, identity) = Secure::new();
        let port = free_port();
        secure.settings(port, "server.trusted_proxies = [\"127.0.0.1\"]");
        let _service = secure.place.serve();
        proxy::stand(port, secure.port, fault, Some(identity));
        let examined = secure.examined();
        examined.complains_of(complaints);
        let way = examined.find("way.service").to_string();
        assert_eq!(
            way.contains("X-Forwarded-Proto: https"),
            !complaints.is_empty(),
            "{way}"
        );
    }
}
