//! What stands in a Django site's own tables: simplejwt's blacklist, groups and permissions.

use countersign_core::audit::Trail;
use countersign_core::session::{Generation, Session};
use countersign_core::store::{Powers, Store as _, TakeOver, TakeOverOutcome};
use countersign_core::user::UserId;

use crate::harness::{Database, ana, open, opening};

/// Django's and simplejwt's tables, as far as they are read.
const TABLES: &str = include_str!("../support/django_tables.sql");

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_token_that_the_site_has_revoked_is_not_taken_over() {
    let database = Database::new().await;
    let store = open(&database.options()).await;
    let ana = store.create_user(&ana(), &Trail::default()).await.unwrap();
    let outcome = async |name: &str| {
        let session = Session {
            generation: Generation::FIRST.next(),
            ..opening(&ana).session
        };
        let takeover = TakeOver {
            session,
            token_id: Some(name.to_owned()),
            most: None,
            trail: Trail::default(),
        };
        store.take_over(&takeover).await.unwrap()
    };
    let is_taken_over =
        async |name| matches!(outcome(name).await, TakeOverOutcome::TakenOver { .. });
    assert!(is_taken_over("revoked").await, "there is no blacklist yet");
    database.ask(TABLES).await;
    let revoke = "INSERT INTO token_blacklist_outstandingtoken VALUES (1, 'live'), (2, 'revoked');
         INSERT INTO token_blacklist_blacklistedtoken VALUES (9, 2)";
    database.ask(revoke).await;
    assert!(is_taken_over("live").await);
    assert!(
        is_taken_over("unheard of").await,
        "issued without being noted"
    );
    assert!(is_taken_over("nul \0").await, "which no column can hold");
    assert_eq!(outcome("revoked").await, TakeOverOutcome::Revoked);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn powers_are_those_of_the_user_and_of_the_users_groups() {
    let database = Database::new().await;
    let store = open(&database.options()).await;
    let refused = store.find_powers(UserId(1), 10).await.unwrap_err();
    assert!(
        refused.to_string().contains("manage.py migrate"),
        "{refused}"
    );
    database.ask(TABLES).await;
    database
        .ask(include_str!("../support/django_powers.sql"))
        .await;
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
