//! Two services on one PostgreSQL: what one does holds on the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::{JSON, PASSWORD, Place, Reply, Service, login, send};

#[path = "../../../countersign-sql/tests/postgres/server.rs"]
#[expect(dead_code, reason = "the store's own tests use all of it")]
mod server;

use self::server::Server;

const SECRET: &str = "7Jq0m1hXo2TnWc5vY8bKd3RfGs6Lp9Ze4AuQxVyN0iE=";

/// A place whose service is a node on this server.
fn node(server: &Server, more: &str) -> Place {
    let place = Place::new();
    let url = server
        .url("postgres")
        .replace("countersign@", "countersign:CANARY@");
    place.settings(&format!(
        "database.url = \"{url}\"\ntokens.issuer = \"http://auth.test\"\n{more}"
    ));
    let owner_alone = fs::Permissions::from_mode(0o600);
    fs::set_permissions(place.path("countersign.toml"), owner_alone).unwrap();
    place
}

fn serve(place: &Place) -> Service {
    place.serve_with(&[("COUNTERSIGN_SECRET", SECRET)])
}

/// A browser that is signed in, and goes to whichever node.
struct Browser {
    refresh: String,
    csrf: String,
    bearer: String,
}

impl Browser {
    fn sign_in(place: &Place) -> Self {
        Self::after(&login(place.port, "ana", PASSWORD))
    }

    fn after(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{reply:?}");
        let text = |name: &str| match &reply.json()[name] {
            Value::String(text) => text.clone(),
            other => panic!("{other}"),
        };
        Self {
            refresh: reply.cookie("refreshtoken"),
            csrf: text("csrf_token"),
            bearer: text("access_token"),
        }
    }

    fn post(&self, place: &Place, path: &str) -> Reply {
        let (refresh, csrf) = (&self.refresh, &self.csrf);
        let headers = format!("{JSON}Cookie: refreshtoken={refresh}\r\nX-CSRFToken: {csrf}\r\n");
        send(place.port, &format!("POST /users/{path}"), &headers, "{}")
    }

    fn me(&self, place: &Place) -> u16 {
        let headers = format!("Authorization: Bearer {}\r\n", self.bearer);
        send(place.port, "GET /users/user", &headers, "").status
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn a_session_goes_from_node_to_node_and_ends_on_all() {
    let server = Server::new();
    let (one, other) = (node(&server, ""), node(&server, ""));
    let secret = [("COUNTERSIGN_SECRET", SECRET)];
    let migrated = one.run_with(&secret, &["migrate"]);
    assert_eq!(migrated.status, Some(0), "{migrated:?}");
    assert!(
        migrated.stdout.contains("from schema version 0"),
        "{migrated:?}"
    );
    let services = [serve(&one), serve(&other)];
    let added = one.run_with(
        &[secret[0], ("COUNTERSIGN_SUPERUSER_PASSWORD", PASSWORD)],
        &["createsuperuser", "--username", "ana", "--no-input"],
    );
    assert_eq!(added.status, Some(0), "{added:?}");

    for generation in 0..3 {
        let browser = Browser::sign_in(&one);
        assert_eq!(browser.me(&other), 200);
        let browser = Browser::after(&browser.post(&other, "refresh_token"));
        assert_eq!((browser.me(&one), browser.me(&other)), (200, 200));
        assert_eq!(browser.post(&one, "logout").status, 204);
        assert_eq!(browser.me(&one), 401);
        let mut tries = 0;
        while browser.me(&other) != 401 {
            tries += 1;
            assert!(tries < 100, "never ended on the other, round {generation}");
        }
        assert_eq!(browser.post(&other, "refresh_token").status, 401);
    }
    for service in services {
        let (status, said) = service.stop();
        assert!(status.success() && !said.contains("CANARY"), "{said}");
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn wrong_passwords_are_counted_by_all_nodes_together() {
    let server = Server::new();
    let nodes = [node(&server, ""), node(&server, "")];
    let services = nodes.each_ref().map(serve);
    let secret = [("COUNTERSIGN_SECRET", SECRET)];
    let added = nodes[0].run_with(
        &[secret[0], ("COUNTERSIGN_SUPERUSER_PASSWORD", PASSWORD)],
        &["createsuperuser", "--username", "ana", "--no-input"],
    );
    assert_eq!(added.status, Some(0), "{added:?}");
    crate::throttling::five_are_looked_at(&nodes);
    for service in services {
        let (status, said) = service.stop();
        assert!(status.success() && said.contains("throttled"), "{said}");
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn a_database_that_goes_away_is_not_the_end_of_the_service() {
    let mut server = Server::new();
    let place = node(&server, "database.timeout = \"1s\"");
    let service = serve(&place);
    let added = place.run_with(
        &[
            ("COUNTERSIGN_SECRET", SECRET),
            ("COUNTERSIGN_SUPERUSER_PASSWORD", PASSWORD),
        ],
        &["createsuperuser", "--username", "ana", "--no-input"],
    );
    assert_eq!(added.status, Some(0), "{added:?}");
    let browser = Browser::sign_in(&place);
    server.stop();
    let reply = browser.post(&place, "refresh_token");
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.head.contains("retry-after"), "{reply:?}");
    server.start();
    crate::harness::eventually("it refreshes", || {
        browser.post(&place, "refresh_token").status == 200
    });
    let (_, said) = service.stop();
    assert!(!said.contains("CANARY"), "{said}");
}
