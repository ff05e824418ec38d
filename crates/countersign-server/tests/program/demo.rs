//! The demo: a service, a page and a stranger, all of which are gone without a trace when it stops.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use crate::harness::{
    JSON, Place, Reply, Service, SignedIn, connect, free_port, login_body, read_reply, request,
    send,
};

/// A demo that runs, with its temporary directory inside of a place of its own.
struct Demo {
    place: Place,
    program: Service,
    port: u16,
    page_port: u16,
}

impl Demo {
    fn start() -> Self {
        Self::start_at(free_port())
    }

    /// With the service on this port.
    fn start_at(port: u16) -> Self {
        let place = Place::new();
        let page_port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let page = page_port.to_string();
        let mut command = place.command(&["demo", "--listen", &listen, "--page-port", &page]);
        fs::create_dir(place.path("tmp")).unwrap();
        command.env("TMPDIR", place.path("tmp"));
        let program = Service::start_until(&mut command, |program| {
            program.stdout().contains("when you stop it")
        });
        Self {
            place,
            program,
            port,
            page_port,
        }
    }

    /// Asks the page's origin, by the name that browsers use.
    fn page(&self, path: &str) -> Reply {
        self.page_as(&format!("localhost:{}", self.page_port), path)
    }

    fn page_as(&self, host: &str, path: &str) -> Reply {
        let mut stream = connect(self.page_port);
        let text = request(&format!("GET {path}"), host, "", "");
        stream.write_all(text.as_bytes()).unwrap();
        read_reply(&mut stream).unwrap()
    }

    fn password(&self) -> String {
        self.page("/settings.json").json()["password"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn login_from(&self, origin: &str) -> Reply {
        let headers = format!("{JSON}Origin: {origin}\r\n");
        let body = login_body("ana", &self.password());
        send(self.port, "POST /users/login", &headers, &body)
    }

    /// What lies in its temporary directory.
    fn traces(&self) -> usize {
        traces(&self.place)
    }
}

fn traces(place: &Place) -> usize {
    fs::read_dir(place.path("tmp")).unwrap().count()
}

#[test]
fn the_page_is_served_and_may_sign_in() {
    let demo = Demo::start();
    let origin = format!("http://localhost:{}", demo.page_port);
    let page = demo.page("/");
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.body.contains("app.js"), "{page:?}");
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self';",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    for file in [
        "app.css",
        "app.js",
        "account.js",
        "explain.js",
        "page.js",
        "countersign.js",
    ] {
        assert_eq!(demo.page(&format!("/{file}")).status, 200, "{file}");
    }
    let told = demo.program.stdout();
    assert!(
        told.contains(&origin) && told.contains(&demo.password()),
        "{told}"
    );

    let login = demo.login_from(&origin);
    assert_eq!(login.status, 200, "{login:?}");
    assert_eq!(login.json()["expires_in"], 60);
    assert_eq!(
        login.header("access-control-allow-origin"),
        Some(origin.as_str())
    );
}

#[test]
fn strangers_are_refused_and_seen() {
    let demo = Demo::start();
    let settings = demo.page("/settings.json").json();
    let strangers = settings["strangers"].as_array().unwrap().clone();
    assert_eq!(strangers.len(), 2);
    for stranger in &strangers {
        demo.login_from(stranger.as_str().unwrap())
            .refused(403, "origin_denied");
    }
    let login = demo.login_from(&format!("http://localhost:{}", demo.page_port));
    let ana = SignedIn::from_reply(&login);
    let refreshed = SignedIn::from_reply(&ana.refresh(demo.port));
    let seen = demo.page("/seen");
    let requests: Vec<Value> = seen.json()["requests"].as_array().unwrap().clone();
    let told: Vec<_> = requests
        .iter()
        .map(|each| {
            (
                each["origin"].clone(),
                each["status"].clone(),
                each["code"].clone(),
            )
        })
        .collect();
    assert_eq!(
        told[0],
        (strangers[0].clone(), 403.into(), "origin_denied".into())
    );
    assert_eq!(
        told[1],
        (strangers[1].clone(), 403.into(), "origin_denied".into())
    );
    assert_eq!((&told[2].1, &told[2].2), (&200.into(), &Value::Null));
    assert_eq!(requests[2]["generation"], json!({ "after": 0 }));
    assert_eq!(
        requests[3]["generation"],
        json!({ "before": 0, "after": 1 })
    );
    assert_eq!(requests[3]["cookies"], json!(["refreshtoken"]));
    let secrets = [
        ana.access,
        ana.cookie,
        ana.csrf,
        refreshed.access,
        refreshed.cookie,
        demo.password(),
    ];
    for secret in secrets {
        assert!(!seen.body.contains(&secret), "{}", seen.body);
    }
}

#[test]
fn a_name_of_somebody_elses_leads_nowhere() {
    let demo = Demo::start();
    assert_eq!(demo.page_as("evil.example", "/settings.json").status, 421);
    let led = demo.page_as(&format!("127.0.0.1:{}", demo.page_port), "/");
    assert_eq!(led.status, 307, "{led:?}");
    let expected = format!("http://localhost:{}/", demo.page_port);
    assert_eq!(led.header("location"), Some(expected.as_str()));
}

#[test]
fn nothing_is_left_of_it_however_it_is_stopped() {
    for signal in ["-TERM", "-INT", "-HUP"] {
        let mut demo = Demo::start();
        assert_eq!(demo.traces(), 1);
        demo.login_from(&format!("http://localhost:{}", demo.page_port));
        demo.program.signal(signal);
        let (status, said) = demo.program.wait();
        assert_eq!(status.code(), Some(0), "{signal}: {said}");
        assert_eq!(demo.traces(), 0, "{signal}");
    }
}

#[test]
fn what_the_directory_holds_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let demo = Demo::start();
    let directory = fs::read_dir(demo.place.path("tmp"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let mode = directory.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let place = Place::new();
    fs::create_dir(place.path("tmp")).unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, place.port)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let page = port.to_string();
    for (words, option) in [
        (&["demo", "--listen", &listen][..], "--listen"),
        (&["demo", "--page-port", &page], "--page-port"),
    ] {
        let tmp = place.path("tmp").display().to_string();
        let said = place.run_with(&[("TMPDIR", &tmp)], words);
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(
            said.stderr.contains(&page) && said.stderr.contains(option),
            "{said:?}"
        );
        assert_eq!(traces(&place), 0);
    }
}

/// The next port after the usual one is where a service tells of its health, unless its settings say otherwise.
#[test]
fn the_service_is_found_on_the_next_port_too() {
    let Ok(free) = TcpListener::bind((Ipv4Addr::LOCALHOST, 8001)) else {
        return; // somebody else's
    };
    drop(free);
    let demo = Demo::start_at(8001);
    let page = format!("http://localhost:{}", demo.page_port);
    assert_eq!(demo.login_from(&page).status, 200);
}

#[test]
fn it_is_for_this_machine_alone_and_has_settings_of_its_own() {
    let place = Place::new();
    for words in [
        &["demo", "--listen", "0.0.0.0:8000"][..],
        &["demo", "--listen", "[::1]:8000"],
        &["demo", "--config", "countersign.toml"],
        &["demo", "--database", "sqlite://countersign.db"],
    ] {
        let said = place.run(words);
        assert_eq!(said.status, Some(2), "{words:?}: {said:?}");
    }
}

#[test]
fn the_files_are_written_once() {
    let place = Place::new();
    let said = place.done(&["demo", "--write", "my-app"]);
    assert!(
        said.contains("index.html") && said.contains("countersign serve"),
        "{said}"
    );
    assert!(place.read("my-app/app.js").contains("account.login"));
    let settings: Value = serde_json::from_str(&place.read("my-app/settings.json")).unwrap();
    assert_eq!(settings["api"], "http://localhost:8000");

    place.write("my-app/app.js", "mine");
    let said = place.run(&["demo", "--write", "my-app"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(place.read("my-app/app.js"), "mine");
}
