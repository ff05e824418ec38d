//! Names of users whom a Django site makes, renames and deletes in the same database.

use countersign_core::audit::Trail;
use countersign_core::store::{CreateUserError, NotedNames, Store as _};
use countersign_core::user::{NewUser, UserId, Username};
use countersign_sql::PostgresStore;
use tokio::task::JoinSet;

use crate::harness::{Database, ana};

fn called(name: &str) -> NewUser {
    NewUser {
        username: Username::parse(name).expect("a good name"),
        ..ana()
    }
}

/// The site makes so many users: site1, site2 and so on, as its users 1001, 1002 and so on.
async fn django_makes(database: &Database, count: u32) {
    let sql = format!(
        "INSERT INTO auth_user (id, password, is_superuser, username, last_name, email, is_staff,
             is_active, date_joined, first_name)
         SELECT 1000 + n, '!', false, 'site' || n, '', '', false, true, now(), ''
         FROM generate_series(1, {count}) AS n;
         SELECT setval(pg_get_serial_sequence('auth_user', 'id'), 1000 + {count})"
    );
    database.ask(&sql).await;
}

async fn is_taken(store: &PostgresStore, name: &str) -> bool {
    match store.create_user(&called(name), &Trail::default()).await {
        Ok(_) => false,
        Err(CreateUserError::UsernameTaken) => true,
        Err(other) => panic!("{name}: {other:?}"),
    }
}

async fn note_all(store: &PostgresStore, after: Option<UserId>) -> u32 {
    let (mut after, mut total) = (after, 0);
    loop {
        let step = store.note_names(after, 100).await;
        let NotedNames { next, noted } = step.expect("the store works");
        total += noted;
        if next.is_none() {
            return total;
        }
        after = after.and(next);
    }
}

const BEFORE_ALL: Option<UserId> = Some(UserId(i64::MIN));

#[tokio::test]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_user_whom_django_makes_keeps_others_from_the_name_at_once() {
    let database = Database::new().await;
    let store = database.store().await;
    store.create_user(&ana(), &Trail::default()).await.unwrap();
    django_makes(&database, 3).await;
    assert!(is_taken(&store, "Site2").await);
    assert!(is_taken(&store, "site3").await);
    assert!(!is_taken(&store, "site4").await);
}

#[tokio::test]
#[ignore = "needs PostgreSQL's server programs"]
async fn no_user_is_made_while_there_are_too_many_whose_names_are_not_known() {
    let database = Database::new().await;
    let store = database.store().await;
    django_makes(&database, 1_500).await;
    let refused = store
        .create_user(&called("SITE1499"), &Trail::default())
        .await;
    assert!(
        matches!(refused, Err(CreateUserError::NamesUnknown)),
        "{refused:?}"
    );
    // In steps, each of which is kept.
    let step = store.note_names(None, 100).await.unwrap();
    let expected = NotedNames {
        next: Some(UserId(1_100)),
        noted: 100,
    };
    assert_eq!(step, expected);
    assert_eq!(note_all(&store, None).await, 1_400);
    assert!(is_taken(&store, "SITE1499").await);
    assert!(!is_taken(&store, "site1501").await);
    assert_eq!(note_all(&store, BEFORE_ALL).await, 0, "all is known");
}

#[tokio::test]
#[ignore = "needs PostgreSQL's server programs"]
async fn who_is_renamed_or_deleted_is_noticed() {
    let database = Database::new().await;
    let store = database.store().await;
    // The oldest are not among those that are looked at whenever a user is made.
    django_makes(&database, 700).await;
    note_all(&store, None).await;
    database
        .ask(
            "UPDATE auth_user SET username = 'olga' WHERE username = 'site120';
             UPDATE auth_user SET username = 'petra' WHERE username = 'site2';
             DELETE FROM auth_user WHERE username IN ('site7', 'site700')",
        )
        .await;
    // Whose name is asked for, at once.
    assert!(!is_taken(&store, "Site2").await);
    assert!(is_taken(&store, "Petra").await);
    assert!(!is_taken(&store, "Site7").await);
    // The others by and by.
    assert_eq!(note_all(&store, BEFORE_ALL).await, 1);
    assert!(is_taken(&store, "0LGA").await);
    let known = database.ask("SELECT count(*) FROM countersign_name").await;
    assert_eq!(known, ["700"], "of who is no more nothing is kept");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn of_two_nodes_one_makes_the_user() {
    let database = Database::new().await;
    let nodes = [database.store().await, database.store().await];
    for round in 0..20 {
        let mut racing = JoinSet::new();
        for (node, name) in nodes.iter().zip(["olga", "OLGA"]) {
            let (node, new) = (node.clone(), called(&format!("{name}{round}")));
            racing.spawn(async move { node.create_user(&new, &Trail::default()).await.is_ok() });
        }
        let made = racing.join_all().await;
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    }
}
