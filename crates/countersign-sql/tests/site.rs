//! What stands in a Django site's own tables: simplejwt's blacklist, groups and permissions.

mod support;

use countersign_core::audit::Trail;
use countersign_core::clock::SystemRandomness;
use countersign_core::session::{Generation, Session, SessionId};
use countersign_core::store::{Powers, Store, TakeOver, TakeOverOutcome};
use countersign_core::user::UserId;
use countersign_sql::{SqliteStore, UserTable};
use rusqlite::Connection;
use support::{Place, ana, start};

/// Django's and simplejwt's tables, as far as they are read.
const TABLES: &str = include_str!("support/django_tables.sql");

fn token_called(name: &str, user: UserId) -> TakeOver {
    TakeOver {
        session: Session {
            id: SessionId::new(start(), &SystemRandomness),
            user_id: user,
            generation: Generation::FIRST.next(),
            opened_at: start(),
            rotated_at: start(),
            remember: true,
            address: None,
            user_agent: None,
            end: None,
        },
        token_id: Some(name.to_owned()),
        most: None,
        trail: Trail::default(),
    }
}

fn run(stranger: &Connection, sql: &str) {
    stranger.execute_batch(sql).expect(sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_site_has_revoked_is_not_taken_over() {
    let place = Place::new();
    let store = place.open();
    let ana = store.create_user(&ana(), &Trail::default()).await.unwrap();
    let is_taken_over = async |name| {
        let outcome = store.take_over(&token_called(name, ana.id)).await.unwrap();
        matches!(outcome, TakeOverOutcome::TakenOver { .. })
    };
    assert!(is_taken_over("revoked").await, "there is no blacklist yet");
    let stranger = place.stranger();
    run(&stranger, TABLES);
    run(
        &stranger,
        "INSERT INTO token_blacklist_outstandingtoken VALUES (1, 'live'), (2, 'revoked');
         INSERT INTO token_blacklist_blacklistedtoken VALUES (9, 2)",
    );
    assert!(is_taken_over("live").await);
    assert!(
        is_taken_over("unheard of").await,
        "issued without being noted"
    );
    assert!(!is_taken_over("revoked").await);
    let outcome = store.take_over(&token_called("revoked", ana.id)).await;
    assert_eq!(outcome.unwrap(), TakeOverOutcome::Revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn powers_are_those_of_the_user_and_of_the_users_groups() {
    let place = Place::new();
    let store = place.open();
    let refused = store.find_powers(UserId(1), 10).await.unwrap_err();
    assert!(
        refused.to_string().contains("manage.py migrate"),
        "{refused}"
    );
    let stranger = place.stranger();
    run(&stranger, TABLES);
    run(&stranger, include_str!("support/django_powers.sql"));
    let powers = |user, most| store.find_powers(UserId(user), most);
    let all = Powers {
        groups: vec!["Authors".to_owned(), "Editors".to_owned()],
        permissions: vec!["blog.add_entry".to_owned(), "shop.add_entry".to_owned()],
    };
    assert_eq!(powers(1, 4).await.unwrap(), all);
    assert_eq!(powers(2, 4).await.unwrap(), Powers::default());
    // One more than was asked for says that there are more.
    let cut = powers(1, 2).await.unwrap();
    assert_eq!(cut.groups.len() + cut.permissions.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn powers_of_an_own_user_model_stand_under_its_name() {
    let place = Place::new();
    let stranger = place.stranger();
    let named = |sql: &str| {
        let named = sql.replace("auth_user", "accounts_account");
        named.replace("user_id", "account_id")
    };
    run(&stranger, &named(include_str!("django/sqlite.sql")));
    run(&stranger, &named(TABLES));
    run(
        &stranger,
        include_str!("support/django_powers.sql")
            .replace("auth_user", "accounts_account")
            .as_str(),
    );
    let users = UserTable::named("accounts_account").expect("a good name");
    let store = SqliteStore::open(&place.options().users(users)).unwrap();
    let powers = store.find_powers(UserId(1), 10).await.unwrap();
    assert_eq!(powers.groups, ["Authors", "Editors"]);
    assert_eq!(powers.permissions, ["blog.add_entry", "shop.add_entry"]);
}
