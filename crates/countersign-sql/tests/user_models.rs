//! Users where a Django site keeps them: in `auth_user`, or in a table of its own.

mod support;

use std::sync::Arc;

use countersign_core::audit::Trail;
use countersign_core::password::EncodedPassword;
use countersign_core::session::EndedBy;
use countersign_core::store::{AccountChange, AccountChangeKind, EndedAt, Store as _, UserQuery};
use countersign_core::survey::Survey;
use countersign_core::user::{NewUser, PersonName, ProfileChange, UserId};
use countersign_sql::{SqliteOptions, SqliteStore, UserColumn, UserTable};
use support::{Place, ana, assert_unavailable, rotate, sign_in, start};

/// A user model whose users sign in by e-mail, and have an additional field.
const OWN_MODEL: &str = r#"
    CREATE TABLE "accounts_user" (
        "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
        "password" varchar(128) NOT NULL,
        "email" varchar(254) NOT NULL UNIQUE,
        "enabled" bool NOT NULL,
        "is_superuser" bool NOT NULL,
        "phone" varchar(20) NULL
    );
    INSERT INTO accounts_user VALUES (41, 'argon2$test$ana', 'olga@example.org', 1, 0, '555');
"#;

fn own_model() -> UserTable {
    UserTable::named("accounts_user")
        .and_then(|table| table.column(UserColumn::Username, "email"))
        .and_then(|table| table.column(UserColumn::IsActive, "enabled"))
        .expect("good names")
}

fn site_with(place: &Place, table: &str) -> SqliteOptions {
    place
        .stranger()
        .execute_batch(table)
        .expect("SQL of a site");
    place.options()
}

#[tokio::test]
async fn djangos_table_is_used_as_every_version_of_it_makes_it() {
    let place = Place::new();
    let options = site_with(&place, include_str!("django/sqlite.sql"));
    let before = place.schema_of("auth_user");
    place
        .stranger()
        .execute(
            "INSERT INTO auth_user VALUES (7, 'argon2$test$ana', NULL, 1, 'olga', 'Lima', \
             'olga@example.org', 1, 1, '2026-11-22 10:00:00.000001', 'Olga')",
            [],
        )
        .unwrap();
    let store = SqliteStore::open(&options).unwrap();
    let olga = store.find_credentials("olga").await.unwrap().unwrap().user;
    assert_eq!(
        (olga.id, olga.first_name.as_str(), olga.last_name.as_str()),
        (UserId(7), "Olga", "Lima")
    );
    assert!(olga.is_staff && olga.is_superuser);
    let session = sign_in(&store, &olga).await;
    assert!(rotate(&store, session.id, 0).await.unwrap());
    let noted: String = place
        .stranger()
        .query_row("SELECT last_login FROM auth_user", [], |row| row.get(0))
        .unwrap();
    assert_eq!(noted, "2026-11-22 10:00:00");
    assert_eq!(
        store
            .create_user(&ana(), &Trail::default())
            .await
            .unwrap()
            .id,
        UserId(8)
    );
    assert_eq!(place.schema_of("auth_user"), before);
}

#[tokio::test]
async fn users_of_an_own_model_sign_in_and_are_changed() {
    let place = Place::new();
    let options = site_with(&place, OWN_MODEL).users(own_model());
    let store = SqliteStore::open(&options).unwrap();
    let found = store.find_credentials("olga@example.org").await.unwrap();
    let olga = found.unwrap().user;
    assert_eq!(
        (olga.id, olga.email.as_str()),
        (UserId(41), "olga@example.org")
    );
    assert_eq!((olga.first_name.as_str(), olga.last_login), ("", None));
    assert!(!olga.is_staff);

    let session = sign_in(&store, &olga).await;
    let (_, user) = store.find_session(session.id).await.unwrap().unwrap();
    assert_eq!(user, Some(olga.clone()), "the login is noted nowhere");
    assert!(rotate(&store, session.id, 0).await.unwrap());

    let change = |kind| AccountChange {
        user: olga.id,
        kind,
        ending: EndedAt {
            at: start(),
            by: EndedBy::CommandLine,
        },
        mail: None,
        trail: Trail::default(),
    };
    let password = change(AccountChangeKind::Password(EncodedPassword::new("new")));
    store.change_account(&password).await.unwrap().unwrap();
    let inactive = change(AccountChangeKind::Active(false));
    let changed = store.change_account(&inactive).await.unwrap().unwrap();
    assert!(!changed.user.is_active);
    let roles = |is_staff| AccountChangeKind::Roles {
        is_staff,
        is_superuser: true,
    };
    let changed = store.change_account(&change(roles(false))).await.unwrap();
    assert!(changed.unwrap().user.is_superuser);
    let refused = store.change_account(&change(roles(true))).await;
    assert_unavailable(&refused);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("django.columns.is_staff")
    );

    let names = ProfileChange {
        first_name: Some(PersonName::parse("first_name", "Olga").unwrap()),
        last_name: None,
    };
    let updated = store
        .update_profile(olga.id, &names, &Trail::default())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(updated.first_name, "", "there is no column for it");

    let row: (String, i64, i64, String) = place
        .stranger()
        .query_row(
            "SELECT password, enabled, is_superuser, phone FROM accounts_user",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!(row, ("new".to_owned(), 0, 1, "555".to_owned()));
    assert_eq!(place.schema_of("auth_user"), "", "none was made");
}

#[tokio::test]
async fn users_of_an_own_model_are_made_listed_and_deleted() {
    let place = Place::new();
    let options = site_with(&place, OWN_MODEL).users(own_model());
    let store = SqliteStore::open(&options).unwrap();
    let staff = NewUser {
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        is_staff: true,
        ..ana()
    };
    assert!(store.create_user(&staff, &Trail::default()).await.is_err());
    let made = store.create_user(&ana(), &Trail::default()).await.unwrap();
    assert_eq!((made.id, made.username.as_str()), (UserId(42), "ana"));
    assert!(
        store.create_user(&ana(), &Trail::default()).await.is_err(),
        "the name is taken"
    );
    let query = UserQuery {
        search: Some("OLGA".to_owned()),
        after: None,
        limit: 10,
    };
    assert_eq!(store.list_users(&query).await.unwrap().len(), 1);
    assert_eq!(store.sample_passwords(5).await.unwrap().len(), 1);
    assert!(store.has_users().await.unwrap());
    let ending = EndedAt {
        at: start(),
        by: EndedBy::CommandLine,
    };
    assert!(
        store
            .delete_user(made.id, ending, &Trail::default())
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(store.find_user(made.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_login_is_not_noted_where_it_shall_not_be() {
    let place = Place::new();
    let options = place
        .options()
        .users(UserTable::default().notes_logins(false));
    let store = SqliteStore::open(&options).unwrap();
    let ana = store.create_user(&ana(), &Trail::default()).await.unwrap();
    sign_in(&store, &ana).await;
    let found = store.find_user(ana.id).await.unwrap().unwrap();
    assert_eq!(found.last_login, None);
}

#[test]
fn tables_that_cannot_work_are_refused_and_nothing_is_made() {
    let uuids = OWN_MODEL.replacen(
        "\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT",
        "\"id\" char(32) NOT NULL PRIMARY KEY",
        1,
    );
    let doubles = OWN_MODEL.replacen("UNIQUE", "", 1);
    for (table, users, expected) in [
        ("", own_model(), "there is no table accounts_user"),
        (
            OWN_MODEL,
            UserTable::named("accounts_user").unwrap(),
            "no column username",
        ),
        (&uuids, own_model(), "BigAutoField"),
        (&doubles, own_model(), "unique=True"),
    ] {
        let place = Place::new();
        let options = site_with(&place, table).users(users);
        let refused = SqliteStore::open(&options).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        let ours: i64 = place
            .stranger()
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'countersign%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(ours, 0);
    }
}

#[test]
fn a_survey_reads_every_row_and_changes_nothing() {
    let place = Place::new();
    let options = site_with(&place, OWN_MODEL).users(own_model());
    let stranger = place.stranger();
    stranger
        .execute_batch(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 12000)
             INSERT INTO accounts_user (password, email, enabled, is_superuser)
             SELECT '!', 'user' || n || '@example.org', 1, 0 FROM numbers;",
        )
        .unwrap();
    let look = || {
        let mut survey = Survey::default();
        let facts = SqliteStore::survey(&options, &mut survey).unwrap();
        (survey.finish(), facts)
    };
    let (surveyed, facts) = look();
    assert_eq!(surveyed.users, 12_001);
    assert_eq!(surveyed.passwords["unusable"].users, 12_000);
    assert!(facts.email_is_unique && facts.email_is_indexed);
    assert!(facts.missing.contains(&UserColumn::IsStaff));
    assert!(facts.our_tables.is_empty());
    let mode: String = stranger
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete", "as Django left it");

    drop(SqliteStore::open(&options).unwrap());
    let (_, facts) = look();
    assert!(facts.our_tables.contains(&"countersign_session".to_owned()));
    let missing = SqliteOptions::new(place.path().with_extension("other"));
    assert!(SqliteStore::survey(&missing, &mut Survey::default()).is_err());
    assert!(!missing.path.exists());
}

#[tokio::test]
async fn where_the_name_is_the_address_people_register_and_move() {
    let place = Place::new();
    let options = site_with(&place, OWN_MODEL).users(own_model());
    let store = SqliteStore::open(&options).unwrap();
    countersign_core::store::contract::where_the_name_is_the_address(Arc::new(store)).await;
}
