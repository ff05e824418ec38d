//! Names of users whom a Django site makes, renames and deletes in the same database.

mod support;

use countersign_core::audit::Trail;
use countersign_core::session::EndedBy;
use countersign_core::store::{CreateUserError, EndedAt, NotedNames, Store as _};
use countersign_core::user::{NewUser, UserId, Username};
use countersign_sql::SqliteStore;
use support::{Place, ana, start};

fn called(name: &str) -> NewUser {
    NewUser {
        username: Username::parse(name).expect("a good name"),
        ..ana()
    }
}

fn django_says(place: &Place, sql: &str) {
    place
        .stranger()
        .execute_batch(sql)
        .expect("SQL of Django's");
}

/// The site makes so many users: site1, site2 and so on, as its users 1001, 1002 and so on.
fn django_makes(place: &Place, count: u32) {
    django_says(
        place,
        &format!(
            "INSERT INTO auth_user (id, password, is_superuser, username, last_name, email, is_staff,
                 is_active, date_joined, first_name)
             WITH RECURSIVE numbers (n) AS (
                 SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
             SELECT 1000 + n, '!', 0, 'site' || n, '', '', 0, 1, '2026-11-22 10:00:00', ''
             FROM numbers"
        ),
    );
}

async fn is_taken(store: &SqliteStore, name: &str) -> bool {
    match store.create_user(&called(name), &Trail::default()).await {
        Ok(_) => false,
        Err(CreateUserError::UsernameTaken) => true,
        Err(other) => panic!("{name}: {other:?}"),
    }
}

async fn note_all(store: &SqliteStore, after: Option<UserId>) -> u32 {
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
async fn a_user_whom_django_makes_keeps_others_from_the_name_at_once() {
    let place = Place::new();
    let store = place.open();
    store.create_user(&ana(), &Trail::default()).await.unwrap();
    django_makes(&place, 3);
    assert!(is_taken(&store, "Site2").await);
    assert!(is_taken(&store, "site3").await);
    assert!(!is_taken(&store, "site4").await);
}

#[tokio::test]
async fn of_two_whom_django_makes_at_once_the_later_number_may_be_there_first() {
    let place = Place::new();
    let store = place.open();
    django_makes(&place, 3);
    django_says(
        &place,
        "UPDATE auth_user SET id = 990 WHERE username = 'site2'; \
        UPDATE auth_user SET username = 'hidden' WHERE id = 990",
    );
    note_all(&store, None).await;
    django_says(&place, "DELETE FROM countersign_name WHERE user_id = 990");
    assert!(is_taken(&store, "HIDDEN").await);
}

#[tokio::test]
async fn no_user_is_made_while_there_are_too_many_whose_names_are_not_known() {
    let place = Place::new();
    let store = place.open();
    django_makes(&place, 1_500);
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
async fn a_name_that_django_gives_up_is_free() {
    let place = Place::new();
    let store = place.open();
    // The oldest are not among those that are looked at whenever a user is made.
    django_makes(&place, 700);
    note_all(&store, None).await;
    django_says(
        &place,
        "DELETE FROM auth_user WHERE username = 'site1';
         UPDATE auth_user SET username = 'olga' WHERE username = 'site2'",
    );
    assert!(!is_taken(&store, "Site1").await);
    assert!(!is_taken(&store, "Site2").await);
    assert!(
        is_taken(&store, "Olga").await,
        "which has been noticed by then"
    );
}

#[tokio::test]
async fn who_is_renamed_or_deleted_is_noticed_by_and_by() {
    let place = Place::new();
    let store = place.open();
    django_makes(&place, 250);
    note_all(&store, None).await;
    django_says(
        &place,
        "UPDATE auth_user SET username = 'olga' WHERE username = 'site120';
         DELETE FROM auth_user WHERE username IN ('site7', 'site250')",
    );
    assert_eq!(note_all(&store, BEFORE_ALL).await, 1);
    assert!(is_taken(&store, "0LGA").await);
    let known: u32 = place
        .stranger()
        .query_row("SELECT count(*) FROM countersign_name", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(known, 248, "of who is no more nothing is kept");
}

#[tokio::test]
async fn of_a_deleted_user_no_name_is_kept() {
    let place = Place::new();
    let store = place.open();
    let ana = store.create_user(&ana(), &Trail::default()).await.unwrap();
    let ending = EndedAt {
        at: start(),
        by: EndedBy::CommandLine,
    };
    store
        .delete_user(ana.id, ending, &Trail::default())
        .await
        .unwrap();
    let kept: u32 = place
        .stranger()
        .query_row("SELECT count(*) FROM countersign_name", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn users_of_djangos_that_look_alike_stay_as_they_are() {
    let place = Place::new();
    let store = place.open();
    django_makes(&place, 2);
    django_says(
        &place,
        "UPDATE auth_user SET username = 'SITE1' WHERE username = 'site2'",
    );
    assert_eq!(note_all(&store, None).await, 2);
    for name in ["site1", "SITE1"] {
        let found = store.find_credentials(name).await.unwrap();
        assert_eq!(found.unwrap().user.username, name);
    }
    assert!(is_taken(&store, "Site1").await);
}

#[tokio::test]
async fn a_name_that_is_no_text_keeps_nobody_from_signing_up() {
    let place = Place::new();
    let store = place.open();
    django_makes(&place, 2);
    django_says(
        &place,
        "UPDATE auth_user SET username = x'ff00' WHERE username = 'site2'",
    );
    assert!(is_taken(&store, "Site1").await);
    assert!(!is_taken(&store, "olga").await);
}
