//! Groups and permissions of a Django site in access tokens.

use std::sync::Arc;

use crate::harness::{PASSWORD, Service, Setup};
use crate::troubled_store::TroubledStore;
use countersign::core::auth::UserClaim;
use countersign_sql::{SqliteOptions, SqliteStore};
use http::StatusCode;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

const TABLES: &str = include_str!("../../../countersign-sql/tests/support/django_tables.sql");
const POWERS: &str = include_str!("../../../countersign-sql/tests/support/django_powers.sql");

fn telling_powers(mut setup: Setup) -> Setup {
    let claims = [
        UserClaim::IsSuperuser,
        UserClaim::Groups,
        UserClaim::Permissions,
    ];
    setup.auth.tokens.user_claims = claims.to_vec();
    setup
}

/// A service on a database with Django's tables, and a way to them.
async fn service_on_a_site() -> (Service, Connection, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.db");
    let store = SqliteStore::open(&SqliteOptions::new(&file)).unwrap();
    let site = Connection::open(&file).unwrap();
    site.execute_batch(TABLES).unwrap();
    site.execute_batch(POWERS).unwrap();
    let setup = telling_powers(Setup::development().over(Arc::new(store)));
    let service = setup.start().await;
    assert_eq!(service.make_user("ana").await.id.0, 1);
    (service, site, directory)
}

#[tokio::test]
async fn an_access_token_says_what_its_user_may_do_as_of_the_last_refresh() {
    let (service, site, _directory) = service_on_a_site().await;
    let mut ana = service.signed_in("ana").await;
    let claims = ana.claims();
    assert_eq!(claims["groups"], json!(["Authors", "Editors"]));
    let permissions = json!(["blog.add_entry", "shop.add_entry"]);
    assert_eq!(claims["permissions"], permissions);
    assert_eq!(claims["is_superuser"], false);
    site.execute_batch("DELETE FROM auth_user_groups WHERE group_id = 1")
        .unwrap();
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(ana.claims()["groups"], json!(["Authors"]));
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn whoever_is_in_no_group_has_a_token_that_says_so() {
    let (service, _site, _directory) = service_on_a_site().await;
    service.make_user("bob").await;
    let claims = service.signed_in("bob").await.claims();
    assert_eq!(
        (&claims["groups"], &claims["permissions"]),
        (&json!([]), &json!([]))
    );
}

#[tokio::test]
async fn a_list_that_is_too_long_is_left_out_and_the_token_is_good() {
    let (service, site, _directory) = service_on_a_site().await;
    for number in 10..200 {
        let grant = format!(
            "INSERT INTO auth_permission VALUES ({number}, 1, 'change_something_{number}');
             INSERT INTO auth_user_user_permissions VALUES (1, {number})"
        );
        site.execute_batch(&grant).unwrap();
    }
    let ana = service.signed_in("ana").await;
    let claims = ana.claims();
    assert_eq!(claims["groups"], json!(["Authors", "Editors"]));
    assert!(claims.get("permissions").is_none());
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn without_the_tables_the_start_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&SqliteOptions::new(directory.path().join("own.db"))).unwrap();
    let setup = telling_powers(Setup::development().over(Arc::new(store)));
    let refused = setup.try_to_start().await.err().expect("it is refused");
    let message = refused.to_string();
    assert!(message.contains("python manage.py migrate"), "{message}");
}

#[tokio::test]
async fn they_are_read_only_where_they_are_told() {
    let reads_of_a_sign_in = async |told: bool| {
        let store = Arc::new(TroubledStore::default());
        let setup = Setup::development().over(store.clone());
        let setup = if told { telling_powers(setup) } else { setup };
        let service = setup.start().await;
        service.make_user("ana").await;
        let before = store.reads();
        service
            .visitor()
            .login("ana", PASSWORD)
            .await
            .expect(StatusCode::OK);
        store.reads() - before
    };
    let quiet = reads_of_a_sign_in(false).await;
    assert_eq!(reads_of_a_sign_in(true).await, quiet + 1);
}
