//! The suite that every store passes: what the rest of the house relies on.
//!
//! ```ignore
//! countersign_core::store_contract!(async || Arc::new(MyStore::empty().await));
//! ```

#![expect(
    clippy::unwrap_used,
    reason = "a suite of tests, which is compiled as a library"
)]

use std::sync::Arc;

use countersign_token::Algorithm;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::{
    AccountChange, AccountChangeKind, Change, CreateUserError, EndedAt, KeyState, OpenOutcome,
    OpenSession, Rotation, SealedSigningKey, Store, UserQuery,
};
use crate::clock::SystemRandomness;
use crate::password::EncodedPassword;
use crate::session::{EndReason, EndedBy, Generation, Session, SessionEnd, SessionId};
use crate::user::{Email, NewUser, PersonName, ProfileChange, User, UserId, Username};

/// Makes one test of each case, on a fresh and empty store each.
#[macro_export]
macro_rules! store_contract {
    ($empty_store:expr) => {
        $crate::store_contract!(@each $empty_store;
            users_are_found_as_they_were_made
            a_username_belongs_to_one_user
            odd_text_is_kept_literally
            users_are_listed_in_pages_and_by_search
            a_profile_changes_only_where_told
            a_session_opens_and_is_found
            a_session_opens_only_while_the_password_still_is_the_one_checked
            a_session_opens_only_for_active_users
            opening_ends_the_replaced_session_and_stores_the_upgraded_password
            rotation_advances_only_from_the_current_generation
            of_many_rotations_at_once_exactly_one_wins
            an_ended_session_stays_ended_and_keeps_its_first_end
            a_new_password_ends_every_session_of_the_user_only
            deactivation_ends_sessions_and_stops_rotation
            only_changed_roles_end_sessions
            deletion_ends_sessions_and_forgets_the_user
            a_users_number_is_never_given_again
            changes_are_told
            the_first_signing_key_wins
            a_new_current_key_retires_the_old
            a_working_store_checks_out
        );
    };
    (@each $empty_store:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let make = $empty_store;
                $crate::store::contract::$case(make().await).await;
            }
        )*
    };
}

fn start() -> Timestamp {
    Timestamp::from_second(1_795_341_600).expect("a date in 2026")
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn by_service() -> EndedAt {
    EndedAt {
        at: after(60),
        by: EndedBy::Service,
    }
}

fn password(text: &str) -> EncodedPassword {
    EncodedPassword::new(format!("argon2$test${text}"))
}

async fn user(store: &dyn Store, name: &str) -> User {
    let new = NewUser {
        username: Username::parse(name).expect("a good name"),
        email: Email::parse(&format!("{name}@example.org")).expect("a good address"),
        password: password(name),
        is_staff: false,
        is_superuser: false,
        date_joined: start(),
    };
    store.create_user(&new).await.expect("the name is free")
}

fn session_of(user: UserId) -> Session {
    Session {
        id: SessionId::new(start(), &SystemRandomness),
        user_id: user,
        generation: Generation::FIRST,
        opened_at: start(),
        rotated_at: start(),
        remember: true,
        address: Some("2001:db8::1".parse().expect("an address")),
        user_agent: Some("curl/8".to_owned()),
        end: None,
    }
}

fn opening(user: &User) -> OpenSession {
    OpenSession {
        session: session_of(user.id),
        verified: password(&user.username),
        upgraded: None,
        replaced: None,
    }
}

async fn open(store: &dyn Store, user: &User) -> Session {
    let opening = opening(user);
    let outcome = store.open_session(&opening).await.expect("the store works");
    assert!(
        matches!(outcome, OpenOutcome::Opened(_)),
        "not opened: {outcome:?}"
    );
    opening.session
}

async fn session(store: &dyn Store, id: SessionId) -> Session {
    store
        .find_session(id)
        .await
        .expect("the store works")
        .expect("the session is there")
        .0
}

async fn end_reason(store: &dyn Store, id: SessionId) -> Option<EndReason> {
    session(store, id).await.end.map(|end| end.reason)
}

async fn rotate(store: &dyn Store, id: SessionId, from: u32) -> bool {
    let rotation = Rotation {
        session: id,
        from: Generation(from),
        at: after(1),
    };
    store.rotate(&rotation).await.expect("the store works")
}

async fn change(store: &dyn Store, user: &User, kind: AccountChangeKind) {
    let change = AccountChange {
        user: user.id,
        kind,
        ending: by_service(),
    };
    store
        .change_account(&change)
        .await
        .expect("the store works")
        .expect("the user is there");
}

async fn told(changes: &mut broadcast::Receiver<Change>) -> Change {
    let wait = std::time::Duration::from_secs(5);
    tokio::time::timeout(wait, changes.recv())
        .await
        .expect("told in time")
        .expect("not lagging")
}

/// What was made is found, with everything that was said of it.
pub async fn users_are_found_as_they_were_made(store: Arc<dyn Store>) {
    assert!(!store.has_users().await.unwrap());
    let ana = user(&*store, "ana").await;
    assert!(store.has_users().await.unwrap());
    assert_eq!(
        (ana.username.as_str(), ana.email.as_str()),
        ("ana", "ana@example.org")
    );
    assert!(ana.is_active && !ana.is_staff && !ana.is_superuser);
    assert_eq!((ana.last_login, ana.date_joined), (None, start()));
    assert_eq!(store.find_user(ana.id).await.unwrap(), Some(ana.clone()));
    let found = store
        .find_credentials("ana")
        .await
        .unwrap()
        .expect("ana is there");
    assert_eq!((found.user, found.password), (ana.clone(), password("ana")));
    assert_eq!(store.find_user(UserId(ana.id.0 + 1)).await.unwrap(), None);
    for other in ["Ana", "ana ", "an", ""] {
        assert!(
            store.find_credentials(other).await.unwrap().is_none(),
            "{other:?} was found"
        );
    }
}

/// The second is refused, and says why.
pub async fn a_username_belongs_to_one_user(store: Arc<dyn Store>) {
    user(&*store, "ana").await;
    let again = NewUser {
        username: Username::parse("ana").unwrap(),
        email: Email::default(),
        password: password("x"),
        is_staff: true,
        is_superuser: true,
        date_joined: start(),
    };
    let refused = store.create_user(&again).await;
    assert!(
        matches!(refused, Err(CreateUserError::UsernameTaken)),
        "{refused:?}"
    );
}

/// Nothing in text is ever read as part of a statement.
pub async fn odd_text_is_kept_literally(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    for odd in [
        "' OR 1=1--",
        "\";DROP TABLE auth_user;--",
        "\\",
        "%",
        "_",
        "𝔘𝔫𝔦🦀",
    ] {
        let name = PersonName::parse("first_name", odd).unwrap();
        let change = ProfileChange {
            first_name: Some(name),
            last_name: None,
        };
        let changed = store
            .update_profile(ana.id, &change)
            .await
            .unwrap()
            .expect("ana is there");
        assert_eq!(changed.first_name, odd);
        assert!(store.find_credentials(odd).await.unwrap().is_none());
        let query = UserQuery {
            search: Some(odd.to_owned()),
            after: None,
            limit: 10,
        };
        assert_eq!(
            store.list_users(&query).await.unwrap(),
            [],
            "{odd:?} matched"
        );
    }
}

/// By id, with a limit, from after a user on, and only those that contain the words.
pub async fn users_are_listed_in_pages_and_by_search(store: Arc<dyn Store>) {
    for name in ["ana", "bob", "Anabel", "carol"] {
        user(&*store, name).await;
    }
    let list = async |search: Option<&str>, after, limit| {
        let query = UserQuery {
            search: search.map(str::to_owned),
            after,
            limit,
        };
        store.list_users(&query).await.unwrap()
    };
    let names = |users: &[User]| {
        users
            .iter()
            .map(|user| user.username.clone())
            .collect::<Vec<_>>()
    };
    let first = list(None, None, 2).await;
    assert_eq!(names(&first), ["ana", "bob"]);
    assert_eq!(
        names(&list(None, Some(first[1].id), 9).await),
        ["Anabel", "carol"]
    );
    assert_eq!(names(&list(Some("ANA"), None, 9).await), ["ana", "Anabel"]);
    assert_eq!(names(&list(Some("bob@example"), None, 9).await), ["bob"]);
}

/// A field that is not told stays.
pub async fn a_profile_changes_only_where_told(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let name = |text| PersonName::parse("name", text).unwrap();
    let first = ProfileChange {
        first_name: Some(name("Ana")),
        last_name: None,
    };
    store.update_profile(ana.id, &first).await.unwrap().unwrap();
    let last = ProfileChange {
        first_name: None,
        last_name: Some(name("Lima")),
    };
    let changed = store.update_profile(ana.id, &last).await.unwrap().unwrap();
    let expected = User {
        first_name: "Ana".to_owned(),
        last_name: "Lima".to_owned(),
        ..ana.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(store.find_user(ana.id).await.unwrap(), Some(expected));
    assert_eq!(
        store.update_profile(UserId(999), &last).await.unwrap(),
        None
    );
}

/// With everything that was said of it, and the login noted at its user.
pub async fn a_session_opens_and_is_found(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opened = open(&*store, &ana).await;
    let (found, user) = store
        .find_session(opened.id)
        .await
        .unwrap()
        .expect("it is there");
    assert_eq!(found, opened);
    assert_eq!(
        user,
        Some(User {
            last_login: Some(start()),
            ..ana
        })
    );
    let other = SessionId::new(start(), &SystemRandomness);
    assert_eq!(store.find_session(other).await.unwrap(), None);
}

/// A login that raced a change of password loses.
pub async fn a_session_opens_only_while_the_password_still_is_the_one_checked(
    store: Arc<dyn Store>,
) {
    let ana = user(&*store, "ana").await;
    let opening = opening(&ana);
    change(&*store, &ana, AccountChangeKind::Password(password("new"))).await;
    assert_eq!(
        store.open_session(&opening).await.unwrap(),
        OpenOutcome::Changed
    );
    assert_eq!(store.find_session(opening.session.id).await.unwrap(), None);
    let stored = store.find_credentials("ana").await.unwrap().unwrap();
    assert_eq!(stored.password, password("new"));
    assert_eq!(stored.user.last_login, None);
}

/// A login that raced a deactivation loses.
pub async fn a_session_opens_only_for_active_users(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opening = opening(&ana);
    change(&*store, &ana, AccountChangeKind::Active(false)).await;
    assert_eq!(
        store.open_session(&opening).await.unwrap(),
        OpenOutcome::Inactive
    );
    assert_eq!(store.find_session(opening.session.id).await.unwrap(), None);
}

/// All in the one transaction.
pub async fn opening_ends_the_replaced_session_and_stores_the_upgraded_password(
    store: Arc<dyn Store>,
) {
    let ana = user(&*store, "ana").await;
    let before = open(&*store, &ana).await;
    let opening = OpenSession {
        upgraded: Some(password("upgraded")),
        replaced: Some(before.id),
        ..opening(&ana)
    };
    let outcome = store.open_session(&opening).await.unwrap();
    assert!(matches!(outcome, OpenOutcome::Opened(_)));
    assert_eq!(
        end_reason(&*store, before.id).await,
        Some(EndReason::ReplacedByLogin)
    );
    assert_eq!(end_reason(&*store, opening.session.id).await, None);
    let stored = store.find_credentials("ana").await.unwrap().unwrap();
    assert_eq!(stored.password, password("upgraded"));
}

/// From any other it changes nothing.
pub async fn rotation_advances_only_from_the_current_generation(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opened = open(&*store, &ana).await;
    assert!(!rotate(&*store, opened.id, 1).await);
    assert!(rotate(&*store, opened.id, 0).await);
    assert!(!rotate(&*store, opened.id, 0).await);
    let rotated = session(&*store, opened.id).await;
    let expected = Session {
        generation: Generation(1),
        rotated_at: after(1),
        ..opened
    };
    assert_eq!(rotated, expected);
    assert!(!rotate(&*store, SessionId::new(start(), &SystemRandomness), 0).await);
}

/// The compare-and-set holds under real concurrency.
pub async fn of_many_rotations_at_once_exactly_one_wins(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opened = open(&*store, &ana).await;
    for generation in 0..20 {
        let mut tasks = JoinSet::new();
        for _ in 0..32 {
            let store = Arc::clone(&store);
            tasks.spawn(async move { rotate(&*store, opened.id, generation).await });
        }
        let won = tasks
            .join_all()
            .await
            .into_iter()
            .filter(|won| *won)
            .count();
        assert_eq!(won, 1, "in generation {generation}");
    }
    assert_eq!(session(&*store, opened.id).await.generation, Generation(20));
}

/// Neither a second end nor a rotation changes it.
pub async fn an_ended_session_stays_ended_and_keeps_its_first_end(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opened = open(&*store, &ana).await;
    let logout = SessionEnd {
        reason: EndReason::Logout,
        at: after(5),
        by: EndedBy::User(ana.id),
    };
    assert!(store.end_session(opened.id, logout).await.unwrap());
    let later = by_service().because(EndReason::ReuseDetected);
    assert!(!store.end_session(opened.id, later).await.unwrap());
    assert!(!rotate(&*store, opened.id, 0).await);
    assert_eq!(
        session(&*store, opened.id).await,
        Session {
            end: Some(logout),
            ..opened
        }
    );
    let nobody = SessionId::new(start(), &SystemRandomness);
    assert!(!store.end_session(nobody, logout).await.unwrap());
}

/// All of them, and nobody else's.
pub async fn a_new_password_ends_every_session_of_the_user_only(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let (one, two) = (open(&*store, &ana).await, open(&*store, &ana).await);
    let bobs = open(&*store, &bob).await;
    change(&*store, &ana, AccountChangeKind::Password(password("new"))).await;
    for ended in [one, two] {
        let end = session(&*store, ended.id).await.end;
        assert_eq!(end, Some(by_service().because(EndReason::PasswordChanged)));
    }
    assert_eq!(end_reason(&*store, bobs.id).await, None);
    let stored = store.find_credentials("ana").await.unwrap().unwrap();
    assert_eq!(stored.password, password("new"));
}

/// And a session that somehow lived would not go on.
pub async fn deactivation_ends_sessions_and_stops_rotation(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opened = open(&*store, &ana).await;
    change(&*store, &ana, AccountChangeKind::Active(false)).await;
    assert_eq!(
        end_reason(&*store, opened.id).await,
        Some(EndReason::UserDeactivated)
    );
    assert!(!store.find_user(ana.id).await.unwrap().unwrap().is_active);
    change(&*store, &ana, AccountChangeKind::Active(true)).await;
    assert_eq!(
        end_reason(&*store, opened.id).await,
        Some(EndReason::UserDeactivated)
    );
    assert!(!rotate(&*store, opened.id, 0).await);
}

/// Saying the same again costs nobody a session.
pub async fn only_changed_roles_end_sessions(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opened = open(&*store, &ana).await;
    let roles = |is_staff| AccountChangeKind::Roles {
        is_staff,
        is_superuser: false,
    };
    change(&*store, &ana, roles(false)).await;
    assert_eq!(end_reason(&*store, opened.id).await, None);
    change(&*store, &ana, roles(true)).await;
    assert_eq!(
        end_reason(&*store, opened.id).await,
        Some(EndReason::RolesChanged)
    );
    assert!(store.find_user(ana.id).await.unwrap().unwrap().is_staff);
}

/// The name is free again, and nothing of the sessions can be used.
pub async fn deletion_ends_sessions_and_forgets_the_user(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opened = open(&*store, &ana).await;
    assert!(store.delete_user(ana.id, by_service()).await.unwrap());
    assert!(!store.delete_user(ana.id, by_service()).await.unwrap());
    assert_eq!(store.find_user(ana.id).await.unwrap(), None);
    assert!(store.find_credentials("ana").await.unwrap().is_none());
    let (ended, nobody) = store
        .find_session(opened.id)
        .await
        .unwrap()
        .expect("it is kept");
    assert_eq!(
        ended.end,
        Some(by_service().because(EndReason::UserDeleted))
    );
    assert_eq!(nobody, None);
    assert!(!rotate(&*store, opened.id, 0).await);
}

/// A token of the deleted user must never name a new one.
pub async fn a_users_number_is_never_given_again(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    store.delete_user(ana.id, by_service()).await.unwrap();
    let again = user(&*store, "ana").await;
    assert_ne!(again.id, ana.id);
}

/// Whoever keeps a copy hears of every change that matters.
pub async fn changes_are_told(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let (one, two) = (open(&*store, &ana).await, open(&*store, &ana).await);
    let mut changes = store.changes();
    let logout = by_service().because(EndReason::Logout);
    store.end_session(one.id, logout).await.unwrap();
    assert_eq!(told(&mut changes).await, Change::SessionEnded(one.id));
    change(&*store, &ana, AccountChangeKind::Active(false)).await;
    let both = [told(&mut changes).await, told(&mut changes).await];
    assert!(both.contains(&Change::SessionEnded(two.id)), "{both:?}");
    assert!(both.contains(&Change::UserChanged(ana.id)), "{both:?}");
}

fn key(kid: &str) -> SealedSigningKey {
    SealedSigningKey {
        kid: kid.to_owned(),
        algorithm: Algorithm::Es256,
        state: KeyState::Current,
        sealed: vec![0, 1, 2, 255],
        created_at: start(),
    }
}

/// Processes that start together end up with one key.
pub async fn the_first_signing_key_wins(store: Arc<dyn Store>) {
    assert_eq!(store.signing_keys().await.unwrap(), []);
    let mut tasks = JoinSet::new();
    for index in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store
                .install_signing_key(&key(&format!("key-{index}")), None)
                .await
                .unwrap()
        });
    }
    let seen = tasks.join_all().await;
    assert_eq!(seen[0].len(), 1);
    assert!(seen.iter().all(|keys| *keys == seen[0]), "{seen:?}");
    assert_eq!(store.signing_keys().await.unwrap(), seen[0]);
}

/// And only if the caller knew which key it takes the place of.
pub async fn a_new_current_key_retires_the_old(store: Arc<dyn Store>) {
    store.install_signing_key(&key("one"), None).await.unwrap();
    let unchanged = store
        .install_signing_key(&key("two"), Some("other"))
        .await
        .unwrap();
    assert_eq!(unchanged, [key("one")]);
    let changed = store
        .install_signing_key(&key("two"), Some("one"))
        .await
        .unwrap();
    let retired = SealedSigningKey {
        state: KeyState::Retired,
        ..key("one")
    };
    assert_eq!(changed, [key("two"), retired]);
}

/// Readiness, when all is well.
pub async fn a_working_store_checks_out(store: Arc<dyn Store>) {
    store.check().await.unwrap();
}
