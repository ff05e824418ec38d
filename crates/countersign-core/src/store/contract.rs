//! The suite that every store passes: what the rest of the house relies on.
//!
//! ```ignore
//! countersign_core::store_contract!(async || Arc::new(MyStore::empty().await));
//! ```

#![expect(
    clippy::unwrap_used,
    reason = "a suite of tests, which is compiled as a library"
)]

mod audit;
mod cut_offs;
mod mailed_tokens;
mod names;
mod throttles;

use std::sync::Arc;

use countersign_token::Algorithm;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

pub use self::audit::*;
pub use self::cut_offs::*;
pub use self::mailed_tokens::*;
pub use self::names::*;
pub use self::throttles::*;
use super::{
    AccountChange, AccountChangeKind, Change, CreateUserError, EndedAt, KeyState, Listener,
    OpenOutcome, OpenSession, PasswordChange, PasswordOutcome, Rotation, SealedSigningKey,
    SessionQuery, SessionSweep, Store, Swept, TakeOver, TakeOverOutcome, UserQuery,
};
use crate::audit::Trail;
use crate::clock::SystemRandomness;
use crate::mail::{ClaimedMail, Mail, MailClaim, MailId, MailOutcome, Message};
use crate::password::EncodedPassword;
use crate::session::{
    EndReason, EndedBy, EndedSession, Generation, Session, SessionEnd, SessionId, SessionLimits,
};
use crate::user::{Email, NewUser, PersonName, ProfileChange, User, UserId, Username};

/// Makes one test of each case, on a fresh and empty store each; with
/// `ignored: "needs a server",` before it, of tests that run only when asked for.
#[macro_export]
macro_rules! store_contract {
    (ignored: $reason:literal, $empty_store:expr) => {
        $crate::store_contract!(@cases [#[ignore = $reason]] $empty_store);
    };
    (@cases $attributes:tt $empty_store:expr) => {
        $crate::store_contract!(@each $attributes $empty_store;
            users_are_found_as_they_were_made
            a_username_belongs_to_one_user
            a_name_that_looks_like_anothers_is_refused
            a_deleted_users_name_is_free
            of_many_alike_at_once_exactly_one_is_made
            names_are_known_once_their_users_are_made
            odd_text_is_kept_literally
            users_are_listed_in_pages_and_by_search
            passwords_are_sampled_from_both_ends
            a_profile_changes_only_where_told
            a_session_opens_and_is_found
            a_session_opens_only_while_the_password_still_is_the_one_checked
            a_session_opens_only_for_active_users
            opening_ends_the_replaced_session_and_stores_the_upgraded_password
            a_token_is_taken_over_once
            only_whoever_may_sign_in_is_taken_over
            a_token_that_is_used_up_opens_nothing
            of_many_take_overs_at_once_exactly_one_opens
            a_take_over_makes_room
            whatever_ends_all_sessions_refuses_the_tokens_issued_until_then
            what_ends_one_session_refuses_no_token
            a_cut_off_never_moves_backwards
            a_token_that_was_used_before_a_cut_off_stays_used
            no_take_over_survives_what_ends_all_sessions_meanwhile
            a_new_password_wins_over_the_upgrade_of_the_old_one
            rotation_advances_only_from_the_current_generation
            of_many_rotations_at_once_exactly_one_wins
            an_ended_session_stays_ended_and_keeps_its_first_end
            a_session_never_ends_before_it_was_last_rotated
            ending_a_users_sessions_ends_all_but_the_spared_one_and_tells_which
            sessions_are_listed_in_pages_by_user_and_by_life
            what_ended_since_is_listed_whoever_ended_it
            of_too_many_sessions_those_used_least_recently_end
            a_new_password_ends_every_session_of_the_user_only
            a_changed_password_spares_the_session_that_asked
            a_password_changes_only_while_it_is_the_one_checked_and_the_session_lives
            deactivation_ends_sessions_and_stops_rotation
            only_changed_roles_end_sessions
            deletion_ends_sessions_and_forgets_the_user
            a_users_number_is_never_given_again
            changes_are_told_before_they_are_answered
            the_first_ring_of_keys_wins
            a_ring_of_keys_changes_only_from_the_one_that_was_seen
            one_process_at_a_time_does_upkeep
            a_sweep_ends_what_is_past_its_limits_and_removes_what_ended_long_ago
            a_sweep_goes_on_where_it_stopped
            attempts_beyond_the_burst_wait_longer_and_longer
            of_many_attempts_at_once_exactly_the_burst_passes
            attempts_that_share_counters_stand_in_nobodys_way
            an_attempt_is_counted_everywhere_or_nowhere
            what_is_given_back_is_ones_own
            successes_at_once_leave_nothing_behind
            attempts_are_forgotten_of_some_and_not_of_others
            counters_that_are_forgotten_are_removed
            a_silent_counter_has_nobody_wait
            a_mail_is_kept_with_the_change_that_it_tells_of
            a_mail_is_kept_with_the_sign_in_that_it_tells_of
            of_many_who_claim_at_once_no_two_have_the_same_mail
            a_claim_that_runs_out_is_somebody_elses
            mail_is_claimed_in_the_order_in_which_it_is_due
            a_wish_is_answered_once
            mails_that_wait_are_counted
            an_address_is_found_in_either_form_of_its_domain
            every_message_is_read_back
            a_user_has_a_few_tokens_of_a_purpose
            only_a_live_session_is_issued_a_token
            a_reset_ends_every_session_and_uses_its_token_up
            a_reset_is_of_the_account_as_it_was
            of_many_resets_at_once_exactly_one_happens
            a_proof_makes_the_address_the_users
            an_address_that_is_set_is_not_proven
            an_address_is_proven_for_one_user
            of_many_who_prove_one_address_at_once_exactly_one_has_it
            users_are_found_by_their_address
            a_registration_becomes_a_user_once
            a_name_is_reserved_for_one
            a_registration_without_a_letter_is_not_kept
            of_many_registrations_of_one_name_exactly_one_is_kept
            a_registration_may_come_too_late
            of_many_completions_at_once_exactly_one_makes_a_user
            deletion_forgets_what_was_mailed_and_proven
            expired_tokens_are_removed
            a_transition_leaves_what_it_carries_and_an_entry_of_each_session_that_ends
            a_change_leaves_what_it_carries_and_outlives_the_user
            what_is_not_done_leaves_nothing
            an_opening_that_is_tried_again_leaves_its_entries_once
            an_entry_is_read_as_it_was_written
            entries_are_listed_newest_first_in_pages_and_by_what_they_concern
            whoever_follows_the_log_misses_nothing_that_many_write_at_once
            old_entries_are_removed_in_steps
            a_working_store_checks_out
        );
    };
    (@each $attributes:tt $empty_store:expr; $($case:ident)*) => {
        $($crate::store_contract!(@one $attributes $empty_store; $case);)*
    };
    (@one [$(#[$attribute:meta])*] $empty_store:expr; $case:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $case() {
            let make = $empty_store;
            $crate::store::contract::$case(make().await).await;
        }
    };
    ($empty_store:expr) => {
        $crate::store_contract!(@cases [] $empty_store);
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

fn new_user(name: &str) -> NewUser {
    NewUser {
        username: Username::parse(name).expect("a good name"),
        email: Email::parse(&format!("{name}@example.org")).expect("a good address"),
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        password: password(name),
        is_staff: false,
        is_superuser: false,
        date_joined: start(),
    }
}

async fn user(store: &dyn Store, name: &str) -> User {
    let made = store.create_user(&new_user(name), &Trail::default()).await;
    made.expect("the name is free")
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
        most: None,
        mail: None,
        trail: Trail::default(),
    }
}

async fn open(store: &dyn Store, user: &User) -> Session {
    let opening = opening(user);
    let outcome = store.open_session(&opening).await.expect("the store works");
    assert!(
        matches!(outcome, OpenOutcome::Opened { .. }),
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
        mail: None,
        trail: Trail::default(),
    };
    store
        .change_account(&change)
        .await
        .expect("the store works")
        .expect("the user is there");
}

fn ids(sessions: &[EndedSession]) -> Vec<SessionId> {
    let mut ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
    ids.sort_unstable();
    ids
}

fn sorted(sessions: &[&Session]) -> Vec<SessionId> {
    let mut ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
    ids.sort_unstable();
    ids
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
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        username: Username::parse("ana").unwrap(),
        email: Email::default(),
        password: password("x"),
        is_staff: true,
        is_superuser: true,
        date_joined: start(),
    };
    let refused = store.create_user(&again, &Trail::default()).await;
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
            .update_profile(ana.id, &change, &Trail::default())
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

/// Each once, and none from between.
pub async fn passwords_are_sampled_from_both_ends(store: Arc<dyn Store>) {
    assert!(store.sample_passwords(2).await.unwrap().is_empty());
    for name in ["ana", "ben", "cleo", "dora", "emil"] {
        user(&*store, name).await;
    }
    let sample = async |ends| {
        let sample = store.sample_passwords(ends).await.unwrap();
        let mut texts: Vec<String> = sample.iter().map(|one| one.as_str().to_owned()).collect();
        texts.sort_unstable();
        texts
    };
    let of = |names: &[&str]| -> Vec<String> {
        let stored = names.iter().map(|name| password(name));
        stored.map(|stored| stored.as_str().to_owned()).collect()
    };
    assert_eq!(sample(2).await, of(&["ana", "ben", "dora", "emil"]));
    assert_eq!(sample(3).await, of(&["ana", "ben", "cleo", "dora", "emil"]));
}

/// A field that is not told stays.
pub async fn a_profile_changes_only_where_told(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let name = |text| PersonName::parse("name", text).unwrap();
    let first = ProfileChange {
        first_name: Some(name("Ana")),
        last_name: None,
    };
    store
        .update_profile(ana.id, &first, &Trail::default())
        .await
        .unwrap()
        .unwrap();
    let last = ProfileChange {
        first_name: None,
        last_name: Some(name("Lima")),
    };
    let changed = store
        .update_profile(ana.id, &last, &Trail::default())
        .await
        .unwrap()
        .unwrap();
    let expected = User {
        first_name: "Ana".to_owned(),
        last_name: "Lima".to_owned(),
        ..ana.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(store.find_user(ana.id).await.unwrap(), Some(expected));
    assert_eq!(
        store
            .update_profile(UserId(999), &last, &Trail::default())
            .await
            .unwrap(),
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
    let OpenOutcome::Opened { user, ended } = store.open_session(&opening).await.unwrap() else {
        panic!("not opened")
    };
    assert_eq!(user.last_login, Some(start()));
    let ended: Vec<_> = ended
        .iter()
        .map(|session| (session.id, session.end.reason))
        .collect();
    assert_eq!(ended, [(before.id, EndReason::ReplacedByLogin)]);
    assert_eq!(
        end_reason(&*store, before.id).await,
        Some(EndReason::ReplacedByLogin)
    );
    assert_eq!(end_reason(&*store, opening.session.id).await, None);
    let stored = store.find_credentials("ana").await.unwrap().unwrap();
    assert_eq!(stored.password, password("upgraded"));
}

fn take_over_of(user: UserId) -> TakeOver {
    TakeOver {
        session: Session {
            generation: Generation::FIRST.next(),
            rotated_at: after(60),
            ..session_of(user)
        },
        token_id: Some("0b5d1a".to_owned()),
        most: None,
        trail: Trail::default(),
    }
}

async fn take_over(store: &dyn Store, takeover: &TakeOver) -> TakeOverOutcome {
    store.take_over(takeover).await.expect("the store works")
}

/// The first one records the session as it was asked, and touches nothing of the user; whoever comes with
/// the same token is told so.
pub async fn a_token_is_taken_over_once(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let takeover = take_over_of(ana.id);
    let outcome = take_over(&*store, &takeover).await;
    let taken_over = TakeOverOutcome::TakenOver {
        user: ana.clone(),
        ended: Vec::new(),
    };
    assert_eq!(outcome, taken_over);
    let id = takeover.session.id;
    assert_eq!(session(&*store, id).await, takeover.session);
    assert_eq!(store.find_user(ana.id).await.unwrap(), Some(ana.clone()));
    let mut again = takeover.clone();
    again.session.rotated_at = after(120);
    assert_eq!(take_over(&*store, &again).await, TakeOverOutcome::Used);
    assert_eq!(session(&*store, id).await, takeover.session);
    assert!(rotate(&*store, id, 1).await);
    assert_eq!(take_over(&*store, &again).await, TakeOverOutcome::Used);
    assert_eq!(session(&*store, id).await.generation, Generation(2));
}

/// A deactivated or unknown user's token opens nothing, and is not used up by that.
pub async fn only_whoever_may_sign_in_is_taken_over(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    change(&*store, &ana, AccountChangeKind::Active(false)).await;
    let mut takeover = take_over_of(ana.id);
    takeover.session.opened_at = after(61);
    let id = takeover.session.id;
    let outcome = take_over(&*store, &takeover).await;
    assert_eq!(outcome, TakeOverOutcome::Inactive);
    assert_eq!(store.find_session(id).await.unwrap(), None);
    change(&*store, &ana, AccountChangeKind::Active(true)).await;
    let outcome = take_over(&*store, &takeover).await;
    assert!(matches!(outcome, TakeOverOutcome::TakenOver { .. }));
    let nobody = take_over_of(UserId(ana.id.0 + 1));
    let outcome = take_over(&*store, &nobody).await;
    assert_eq!(outcome, TakeOverOutcome::NoSuchUser);
}

/// A session that is recorded as ended stays so, also of a user who may not sign in.
pub async fn a_token_that_is_used_up_opens_nothing(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    change(&*store, &ana, AccountChangeKind::Active(false)).await;
    let mut takeover = take_over_of(ana.id);
    takeover.session.end = Some(by_service().because(EndReason::Logout));
    let outcome = take_over(&*store, &takeover).await;
    assert!(matches!(outcome, TakeOverOutcome::TakenOver { .. }));
    let id = takeover.session.id;
    assert_eq!(session(&*store, id).await, takeover.session);
    change(&*store, &ana, AccountChangeKind::Active(true)).await;
    takeover.session.end = None;
    assert_eq!(take_over(&*store, &takeover).await, TakeOverOutcome::Used);
    assert_eq!(end_reason(&*store, id).await, Some(EndReason::Logout));
    assert!(!rotate(&*store, id, 1).await);
}

/// However many come with one token.
pub async fn of_many_take_overs_at_once_exactly_one_opens(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let takeover = take_over_of(ana.id);
    let mut tabs = JoinSet::new();
    for second in 0..16 {
        let (store, mut takeover) = (Arc::clone(&store), takeover.clone());
        takeover.session.rotated_at = after(60 + second);
        tabs.spawn(async move { take_over(&*store, &takeover).await });
    }
    let outcomes = tabs.join_all().await;
    let is_opened =
        |outcome: &&TakeOverOutcome| matches!(outcome, TakeOverOutcome::TakenOver { .. });
    assert_eq!(outcomes.iter().filter(is_opened).count(), 1);
    let is_used = |outcome: &&TakeOverOutcome| **outcome == TakeOverOutcome::Used;
    assert_eq!(outcomes.iter().filter(is_used).count(), 15);
}

/// As a login does: of too many sessions those used least recently end.
pub async fn a_take_over_makes_room(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let (first, second) = (open(&*store, &ana).await, open(&*store, &ana).await);
    assert!(rotate(&*store, second.id, 0).await);
    let mut takeover = take_over_of(ana.id);
    takeover.most = std::num::NonZeroU32::new(2);
    let TakeOverOutcome::TakenOver { ended, .. } = take_over(&*store, &takeover).await else {
        panic!("not taken over")
    };
    assert_eq!(ids(&ended), [first.id]);
    let first = end_reason(&*store, first.id).await;
    assert_eq!(first, Some(EndReason::TooManySessions));
    assert_eq!(end_reason(&*store, second.id).await, None);
    assert_eq!(take_over(&*store, &takeover).await, TakeOverOutcome::Used);
    assert_eq!(end_reason(&*store, second.id).await, None);
}

/// Whoever signs in with the old password while it is replaced neither brings it back nor stays.
pub async fn a_new_password_wins_over_the_upgrade_of_the_old_one(store: Arc<dyn Store>) {
    const ROUNDS: usize = 1_000;
    let ana = user(&*store, "ana").await;
    let mut stored = password("ana");
    for round in 0..ROUNDS {
        let login = OpenSession {
            verified: stored.clone(),
            upgraded: Some(password(&format!("upgraded{round}"))),
            ..opening(&ana)
        };
        let new = password(&format!("new{round}"));
        let change = AccountChange {
            user: ana.id,
            kind: AccountChangeKind::Password(new.clone()),
            mail: None,
            ending: by_service(),
            trail: Trail::default(),
        };
        // Each goes first as often.
        let (opened, changed) = if round % 2 == 0 {
            tokio::join!(store.open_session(&login), store.change_account(&change))
        } else {
            let (changed, opened) =
                tokio::join!(store.change_account(&change), store.open_session(&login));
            (opened, changed)
        };
        changed.unwrap().expect("ana is there");
        let found = store.find_credentials("ana").await.unwrap();
        assert_eq!(found.expect("ana is there").password, new, "round {round}");
        match opened.unwrap() {
            OpenOutcome::Opened { .. } => {
                let end = end_reason(&*store, login.session.id).await;
                assert_eq!(end, Some(EndReason::PasswordChanged), "round {round}");
            }
            outcome => assert_eq!(outcome, OpenOutcome::Changed, "round {round}"),
        }
        stored = new;
    }
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
    assert!(
        store
            .end_session(opened.id, logout, &Trail::default())
            .await
            .unwrap()
    );
    let later = by_service().because(EndReason::ReuseDetected);
    assert!(
        !store
            .end_session(opened.id, later, &Trail::default())
            .await
            .unwrap()
    );
    assert!(!rotate(&*store, opened.id, 0).await);
    assert_eq!(
        session(&*store, opened.id).await,
        Session {
            end: Some(logout),
            ..opened
        }
    );
    let nobody = SessionId::new(start(), &SystemRandomness);
    assert!(
        !store
            .end_session(nobody, logout, &Trail::default())
            .await
            .unwrap()
    );
}

/// However it ends: a clock that was ahead and is set back does not make its end be forgotten early.
pub async fn a_session_never_ends_before_it_was_last_rotated(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let sessions = [
        open(&*store, &ana).await,
        open(&*store, &ana).await,
        open(&*store, &ana).await,
    ];
    for session in &sessions {
        let ahead = Rotation {
            session: session.id,
            from: Generation(0),
            at: after(3_600),
        };
        assert!(store.rotate(&ahead).await.unwrap());
    }
    let listener = &mut Listener::of(&*store);
    let [one, two, three] = &sessions;
    let logout = by_service().because(EndReason::Logout);
    store
        .end_session(one.id, logout, &Trail::default())
        .await
        .unwrap();
    let crowded = OpenSession {
        most: std::num::NonZeroU32::new(2),
        ..opening(&ana)
    };
    store.open_session(&crowded).await.unwrap();
    change(&*store, &ana, AccountChangeKind::Active(false)).await;
    for ended in [one, two, three] {
        let end = session(&*store, ended.id).await.end.unwrap();
        assert_eq!(end.at, after(3_600), "{}", end.reason);
    }
    let told = listener
        .heard()
        .into_iter()
        .filter_map(|change| match change {
            Change::SessionEnded(ended) if ended.id != crowded.session.id => Some(ended.end.at),
            _ => None,
        });
    assert_eq!(told.collect::<Vec<_>>(), [after(3_600); 3]);
    assert_eq!(store.ended_since(after(3_599)).await.unwrap().len(), 3);
}

/// Nobody else's, and those that had ended before keep their end.
pub async fn ending_a_users_sessions_ends_all_but_the_spared_one_and_tells_which(
    store: Arc<dyn Store>,
) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let (one, two, three) = (
        open(&*store, &ana).await,
        open(&*store, &ana).await,
        open(&*store, &ana).await,
    );
    let bobs = open(&*store, &bob).await;
    let logout = by_service().because(EndReason::Logout);
    store
        .end_session(three.id, logout, &Trail::default())
        .await
        .unwrap();

    let end = by_service().because(EndReason::RevokedByUser);
    let ended = store
        .end_sessions(ana.id, Some(one.id), end, &Trail::default())
        .await
        .unwrap();
    let expected = EndedSession {
        id: two.id,
        user: ana.id,
        end,
    };
    assert_eq!(ended, [expected]);
    assert_eq!(session(&*store, two.id).await.end, Some(end));
    assert_eq!(end_reason(&*store, one.id).await, None);
    assert_eq!(end_reason(&*store, three.id).await, Some(EndReason::Logout));
    assert_eq!(end_reason(&*store, bobs.id).await, None);

    let rest = store
        .end_sessions(ana.id, None, end, &Trail::default())
        .await
        .unwrap();
    assert_eq!(ids(&rest), [one.id]);
    assert_eq!(
        store
            .end_sessions(ana.id, None, end, &Trail::default())
            .await
            .unwrap(),
        []
    );
}

/// In the order of their names, whole, and no more than asked for.
pub async fn sessions_are_listed_in_pages_by_user_and_by_life(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let (one, two) = (open(&*store, &ana).await, open(&*store, &ana).await);
    let bobs = open(&*store, &bob).await;
    let logout = by_service().because(EndReason::Logout);
    store
        .end_session(one.id, logout, &Trail::default())
        .await
        .unwrap();
    let list = async |user, live, after, limit| {
        let query = SessionQuery {
            user,
            live,
            after,
            limit,
        };
        store.list_sessions(&query).await.unwrap()
    };
    let ended = Session {
        end: Some(logout),
        ..one.clone()
    };
    let all = sorted(&[&one, &two, &bobs]);
    let of = |sessions: Vec<Session>| -> Vec<SessionId> {
        sessions.iter().map(|session| session.id).collect()
    };
    assert_eq!(of(list(None, false, None, 9).await), all);
    assert_eq!(of(list(None, false, None, 2).await), all[..2]);
    assert_eq!(of(list(None, false, Some(all[1]), 9).await), all[2..]);
    let anas = list(Some(ana.id), false, None, 9).await;
    assert_eq!(anas.len(), 2);
    assert!(anas.contains(&ended) && anas.contains(&two));
    assert_eq!(list(Some(ana.id), true, None, 9).await, [two]);
    assert_eq!(of(list(Some(bob.id), true, None, 9).await), [bobs.id]);
    assert_eq!(list(Some(bob.id), true, Some(bobs.id), 9).await, []);
}

/// With why, when and by whom.
pub async fn what_ended_since_is_listed_whoever_ended_it(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let (early, late, alive) = (
        open(&*store, &ana).await,
        open(&*store, &ana).await,
        open(&*store, &ana).await,
    );
    for (ended, at) in [(&early, 10), (&late, 20)] {
        let end = SessionEnd {
            reason: EndReason::Logout,
            at: after(at),
            by: EndedBy::User(ana.id),
        };
        store
            .end_session(ended.id, end, &Trail::default())
            .await
            .unwrap();
    }
    let since = async |seconds| store.ended_since(after(seconds)).await.unwrap();
    assert_eq!(ids(&since(0).await), sorted(&[&early, &late]));
    let of_late = since(10).await;
    assert_eq!(ids(&of_late), [late.id]);
    assert_eq!(
        (of_late[0].user, of_late[0].end.by),
        (ana.id, EndedBy::User(ana.id))
    );
    assert_eq!(since(20).await, []);
    assert_eq!(end_reason(&*store, alive.id).await, None);
}

/// In the transaction that opens the one too many.
pub async fn of_too_many_sessions_those_used_least_recently_end(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let bobs = open(&*store, &bob).await;
    let (first, second) = (open(&*store, &ana).await, open(&*store, &ana).await);
    assert!(rotate(&*store, first.id, 0).await);
    let limited = |most| OpenSession {
        most: std::num::NonZeroU32::new(most),
        ..opening(&ana)
    };
    let opened = async |opening: &OpenSession| match store.open_session(opening).await.unwrap() {
        OpenOutcome::Opened { ended, .. } => ended,
        refused => panic!("not opened: {refused:?}"),
    };
    assert_eq!(opened(&limited(3)).await, []);
    // The second was opened after the first, and has not been used since.
    let ended = opened(&limited(3)).await;
    assert_eq!(ended.len(), 1);
    assert_ne!(ended[0].id, first.id);
    assert_eq!(ended[0].end.reason, EndReason::TooManySessions);
    assert_eq!(
        end_reason(&*store, ended[0].id).await,
        Some(EndReason::TooManySessions)
    );
    // A limit that was lowered holds from the next login on.
    let last = limited(1);
    assert_eq!(opened(&last).await.len(), 3);
    let query = SessionQuery {
        user: Some(ana.id),
        live: true,
        after: None,
        limit: 9,
    };
    assert_eq!(store.list_sessions(&query).await.unwrap(), [last.session]);
    assert_eq!(end_reason(&*store, bobs.id).await, None);
    assert!(end_reason(&*store, second.id).await.is_some());
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

fn password_change(user: &User, session: &Session) -> PasswordChange {
    PasswordChange {
        user: user.id,
        session: session.id,
        verified: password(&user.username),
        new: password("new"),
        ending: by_service(),
        mail: None,
        trail: Trail::default(),
    }
}

/// And ends the others.
pub async fn a_changed_password_spares_the_session_that_asked(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let (here, there) = (open(&*store, &ana).await, open(&*store, &ana).await);
    let bobs = open(&*store, &bob).await;
    let change = password_change(&ana, &here);
    let PasswordOutcome::Changed(ended) = store.change_password(&change).await.unwrap() else {
        panic!("not changed")
    };
    assert_eq!(ids(&ended), [there.id]);
    assert_eq!(
        session(&*store, there.id).await.end,
        Some(by_service().because(EndReason::PasswordChanged))
    );
    assert_eq!(end_reason(&*store, here.id).await, None);
    assert_eq!(end_reason(&*store, bobs.id).await, None);
    let stored = store.find_credentials("ana").await.unwrap().unwrap();
    assert_eq!(stored.password, password("new"));
}

/// Of two changes at once one wins, and whoever was signed out meanwhile changes nothing.
pub async fn a_password_changes_only_while_it_is_the_one_checked_and_the_session_lives(
    store: Arc<dyn Store>,
) {
    let ana = user(&*store, "ana").await;
    let here = open(&*store, &ana).await;
    let outdated = PasswordChange {
        verified: password("other"),
        ..password_change(&ana, &here)
    };
    assert_eq!(
        store.change_password(&outdated).await.unwrap(),
        PasswordOutcome::Outdated
    );
    let stored = async || {
        store
            .find_credentials("ana")
            .await
            .unwrap()
            .unwrap()
            .password
    };
    assert_eq!(stored().await, password("ana"));

    let logout = by_service().because(EndReason::Logout);
    store
        .end_session(here.id, logout, &Trail::default())
        .await
        .unwrap();
    let change = password_change(&ana, &here);
    assert_eq!(
        store.change_password(&change).await.unwrap(),
        PasswordOutcome::SessionOver
    );
    assert_eq!(stored().await, password("ana"));
    // Nor by a session of somebody else.
    let bob = user(&*store, "bob").await;
    let bobs = open(&*store, &bob).await;
    let change = password_change(&ana, &bobs);
    assert_eq!(
        store.change_password(&change).await.unwrap(),
        PasswordOutcome::SessionOver
    );
    assert_eq!(stored().await, password("ana"));
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
    let ended = store
        .delete_user(ana.id, by_service(), &Trail::default())
        .await
        .unwrap();
    assert_eq!(ids(&ended.expect("ana was there")), [opened.id]);
    assert_eq!(
        store
            .delete_user(ana.id, by_service(), &Trail::default())
            .await
            .unwrap(),
        None
    );
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
    store
        .delete_user(ana.id, by_service(), &Trail::default())
        .await
        .unwrap();
    let again = user(&*store, "ana").await;
    assert_ne!(again.id, ana.id);
}

/// Whoever keeps a copy knows of a change before the one who made it does.
pub async fn changes_are_told_before_they_are_answered(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let mut listener = Listener::of(&*store);
    let (one, two, three) = (
        open(&*store, &ana).await,
        open(&*store, &ana).await,
        open(&*store, &ana).await,
    );
    // A login is a change of the user, too: the time of it is shown.
    assert_eq!(listener.heard(), [Change::UserChanged(ana.id); 3]);

    let logout = by_service().because(EndReason::Logout);
    store
        .end_session(one.id, logout, &Trail::default())
        .await
        .unwrap();
    let told = |session: &Session, end| {
        Change::SessionEnded(EndedSession {
            id: session.id,
            user: ana.id,
            end,
        })
    };
    assert_eq!(listener.heard(), [told(&one, logout)]);
    store
        .end_session(one.id, logout, &Trail::default())
        .await
        .unwrap();
    assert_eq!(listener.heard(), [], "it had ended before");

    store
        .end_sessions(ana.id, Some(three.id), logout, &Trail::default())
        .await
        .unwrap();
    assert_eq!(listener.heard(), [told(&two, logout)]);

    change(&*store, &ana, AccountChangeKind::Active(false)).await;
    let heard = listener.heard();
    let deactivated = by_service().because(EndReason::UserDeactivated);
    assert!(heard.contains(&told(&three, deactivated)), "{heard:?}");
    assert!(heard.contains(&Change::UserChanged(ana.id)), "{heard:?}");
    assert_eq!(heard.len(), 2);

    store
        .swap_signing_keys(&[], &[key("one", KeyState::Current)], &Trail::default())
        .await
        .unwrap();
    assert_eq!(listener.heard(), [Change::KeysChanged]);
}

fn key(kid: &str, state: KeyState) -> SealedSigningKey {
    SealedSigningKey {
        kid: kid.to_owned(),
        algorithm: Algorithm::Es256,
        state,
        sealed: vec![0, 1, 2, 255],
        created_at: start(),
        state_since: after(5),
    }
}

/// Processes that start together end up with one ring.
pub async fn the_first_ring_of_keys_wins(store: Arc<dyn Store>) {
    assert_eq!(store.signing_keys().await.unwrap(), []);
    let mut tasks = JoinSet::new();
    for index in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let ring = [key(&format!("key-{index}"), KeyState::Current)];
            store
                .swap_signing_keys(&[], &ring, &Trail::default())
                .await
                .unwrap()
        });
    }
    let seen = tasks.join_all().await;
    assert_eq!(seen[0].len(), 1);
    assert!(seen.iter().all(|keys| *keys == seen[0]), "{seen:?}");
    assert_eq!(store.signing_keys().await.unwrap(), seen[0]);
}

/// Whole and in order, whatever changed of it; and whoever saw another one changes nothing.
pub async fn a_ring_of_keys_changes_only_from_the_one_that_was_seen(store: Arc<dyn Store>) {
    let first = [key("one", KeyState::Current)];
    store
        .swap_signing_keys(&[], &first, &Trail::default())
        .await
        .unwrap();
    let second = [
        key("two", KeyState::Next),
        key("one", KeyState::Current),
        key("zero", KeyState::Revoked),
    ];
    assert_eq!(
        store
            .swap_signing_keys(&first, &second, &Trail::default())
            .await
            .unwrap(),
        second
    );
    assert_eq!(
        store
            .swap_signing_keys(&first, &first, &Trail::default())
            .await
            .unwrap(),
        second
    );
    let retired = SealedSigningKey {
        state: KeyState::Retired,
        state_since: after(99),
        ..key("one", KeyState::Current)
    };
    let third = [key("two", KeyState::Current), retired];
    assert_eq!(
        store
            .swap_signing_keys(&second, &third, &Trail::default())
            .await
            .unwrap(),
        third
    );
    assert_eq!(store.signing_keys().await.unwrap(), third);
}

/// Another takes over when the turn is over, also if the clock was set back meanwhile.
pub async fn one_process_at_a_time_does_upkeep(store: Arc<dyn Store>) {
    let turn = async |now, until| {
        store
            .take_upkeep_turn(after(now), after(until))
            .await
            .unwrap()
    };
    assert!(turn(0, 50).await);
    assert!(!turn(1, 51).await);
    assert!(!turn(49, 99).await);
    assert!(turn(50, 100).await);
    assert!(!turn(51, 101).await);
    assert!(turn(-3_600, -3_550).await);
}

const LIMITS: SessionLimits = SessionLimits {
    idle: std::time::Duration::from_secs(1_000),
    absolute: std::time::Duration::from_mins(50),
    grace: std::time::Duration::from_secs(30),
};

fn sweep(after_session: Option<SessionId>, limit: u32, now: i64) -> SessionSweep {
    SessionSweep {
        after: after_session,
        limit,
        limits: LIMITS,
        now: after(now),
        forget_before: after(now - 5_000),
    }
}

/// And touches no other.
pub async fn a_sweep_ends_what_is_past_its_limits_and_removes_what_ended_long_ago(
    store: Arc<dyn Store>,
) {
    let ana = user(&*store, "ana").await;
    let (used, idle, ended) = (
        open(&*store, &ana).await,
        open(&*store, &ana).await,
        open(&*store, &ana).await,
    );
    let rotation = Rotation {
        session: used.id,
        from: Generation(0),
        at: after(900),
    };
    assert!(store.rotate(&rotation).await.unwrap());
    let logout = by_service().because(EndReason::Logout);
    store
        .end_session(ended.id, logout, &Trail::default())
        .await
        .unwrap();

    let swept = async |now| store.sweep_sessions(&sweep(None, 9, now)).await.unwrap();
    let nothing = Swept {
        next: None,
        expired: 0,
        removed: 0,
    };
    assert_eq!(swept(999).await, nothing);
    let expired = Swept {
        expired: 1,
        ..nothing
    };
    assert_eq!(swept(1_500).await, expired);
    let end = SessionEnd {
        reason: EndReason::Expired,
        at: after(1_000),
        by: EndedBy::Service,
    };
    assert_eq!(session(&*store, idle.id).await.end, Some(end));
    assert_eq!(end_reason(&*store, used.id).await, None);
    assert_eq!(end_reason(&*store, ended.id).await, Some(EndReason::Logout));

    // The absolute limit ends a session that is in use.
    let rotation = Rotation {
        session: used.id,
        from: Generation(1),
        at: after(2_900),
    };
    assert!(store.rotate(&rotation).await.unwrap());
    assert_eq!(swept(3_000).await, expired);
    assert_eq!(
        session(&*store, used.id).await.end.map(|end| end.at),
        Some(after(3_000))
    );

    let removed = Swept {
        removed: 1,
        ..nothing
    };
    assert_eq!(swept(5_060).await, nothing);
    assert_eq!(swept(5_061).await, removed);
    assert_eq!(store.find_session(ended.id).await.unwrap(), None);
    assert!(store.find_session(idle.id).await.unwrap().is_some());
}

/// So that no transaction has much to do.
pub async fn a_sweep_goes_on_where_it_stopped(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    for _ in 0..7 {
        open(&*store, &ana).await;
    }
    let (mut after_session, mut steps) = (None, Vec::new());
    loop {
        let step = sweep(after_session, 3, 1_000);
        let swept = store.sweep_sessions(&step).await.unwrap();
        steps.push(swept.expired);
        after_session = swept.next;
        if after_session.is_none() {
            break;
        }
    }
    assert_eq!(steps, [3, 3, 1]);
}

fn mail_to(user: &User, queued_at: Timestamp) -> Mail {
    Mail {
        id: MailId::new(queued_at, &SystemRandomness),
        recipient: user.email.clone(),
        username: user.username.clone(),
        message: Message::PasswordChanged {
            by: EndedBy::User(user.id),
        },
        queued_at,
    }
}

/// Keeps a mail, by a change that costs no sessions.
async fn queue(store: &dyn Store, user: &User, queued_at: Timestamp) -> Mail {
    let mail = mail_to(user, queued_at);
    let change = AccountChange {
        user: user.id,
        kind: AccountChangeKind::Active(true),
        ending: by_service(),
        mail: Some(mail.clone()),
        trail: Trail::default(),
    };
    store.change_account(&change).await.unwrap().unwrap();
    mail
}

fn claim(now: i64, until: i64, limit: u32) -> MailClaim {
    MailClaim {
        now: after(now),
        until: after(until),
        limit,
    }
}

/// Neither without the other.
pub async fn a_mail_is_kept_with_the_change_that_it_tells_of(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let here = open(&*store, &ana).await;
    let all = claim(100, 200, 10);
    assert_eq!(store.claim_mail(&all).await.unwrap(), []);
    let changing = PasswordChange {
        mail: Some(mail_to(&ana, after(60))),
        ..password_change(&ana, &here)
    };
    let outdated = PasswordChange {
        verified: password("other"),
        ..changing.clone()
    };
    let refused = store.change_password(&outdated).await.unwrap();
    assert_eq!(refused, PasswordOutcome::Outdated);
    assert_eq!(store.claim_mail(&all).await.unwrap(), []);
    let changed = store.change_password(&changing).await.unwrap();
    assert_eq!(changed, PasswordOutcome::Changed(Vec::new()));
    let claimed = ClaimedMail {
        mail: changing.mail.unwrap(),
        attempts: 1,
        until: after(200),
    };
    assert_eq!(store.claim_mail(&all).await.unwrap(), [claimed]);
}

/// Neither without the other, and once also where the store was asked twice.
pub async fn a_mail_is_kept_with_the_sign_in_that_it_tells_of(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let all = claim(100, 200, 10);
    let signing_in = OpenSession {
        mail: Some(mail_to(&ana, after(60))),
        ..opening(&ana)
    };
    let outdated = OpenSession {
        verified: password("other"),
        ..signing_in.clone()
    };
    let refused = store.open_session(&outdated).await.unwrap();
    assert_eq!(refused, OpenOutcome::Changed);
    assert_eq!(store.claim_mail(&all).await.unwrap(), []);
    for _ in 0..2 {
        let opened = store.open_session(&signing_in).await.unwrap();
        assert!(matches!(opened, OpenOutcome::Opened { .. }));
    }
    let claimed = ClaimedMail {
        mail: signing_in.mail.unwrap(),
        attempts: 1,
        until: after(200),
    };
    assert_eq!(store.claim_mail(&all).await.unwrap(), [claimed]);
}

/// However many processes there are.
pub async fn of_many_who_claim_at_once_no_two_have_the_same_mail(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let mut queued = Vec::new();
    for second in 0..24 {
        queued.push(queue(&*store, &ana, after(second)).await.id);
    }
    let mut claiming = JoinSet::new();
    for _ in 0..6 {
        let store = Arc::clone(&store);
        claiming.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = store.claim_mail(&claim(100, 1_000, 3)).await.unwrap();
                if claimed.is_empty() {
                    return mine;
                }
                assert!(claimed.len() <= 3);
                mine.extend(claimed.iter().map(|claimed| claimed.mail.id));
            }
        });
    }
    let mut claimed: Vec<_> = claiming.join_all().await.into_iter().flatten().collect();
    claimed.sort_unstable();
    queued.sort_unstable();
    assert_eq!(claimed, queued);
}

/// Whoever died with it need not be waited for, and whoever comes late settles nothing.
pub async fn a_claim_that_runs_out_is_somebody_elses(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    queue(&*store, &ana, after(0)).await;
    let first = store.claim_mail(&claim(10, 20, 10)).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(store.claim_mail(&claim(19, 40, 10)).await.unwrap(), []);
    let second = store.claim_mail(&claim(20, 30, 10)).await.unwrap();
    assert_eq!((second.len(), second[0].attempts), (1, 2));
    for outcome in [MailOutcome::Done, MailOutcome::Later(after(5))] {
        assert!(!store.settle_mail(&first[0], outcome).await.unwrap());
    }
    assert!(
        store
            .settle_mail(&second[0], MailOutcome::Done)
            .await
            .unwrap()
    );
    assert!(
        !store
            .settle_mail(&second[0], MailOutcome::Done)
            .await
            .unwrap()
    );
    assert_eq!(
        store.claim_mail(&claim(1_000, 2_000, 10)).await.unwrap(),
        []
    );
}

/// And not before.
pub async fn mail_is_claimed_in_the_order_in_which_it_is_due(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let (late, early) = (
        queue(&*store, &ana, after(7)).await,
        queue(&*store, &ana, after(5)).await,
    );
    let claimed = async |now: i64, limit| {
        let claim = claim(now, 100, limit);
        store.claim_mail(&claim).await.unwrap()
    };
    assert_eq!(claimed(4, 10).await, []);
    let first = claimed(8, 1).await;
    assert_eq!(first[0].mail, early);
    let later = MailOutcome::Later(after(9));
    assert!(store.settle_mail(&first[0], later).await.unwrap());
    assert_eq!(claimed(8, 10).await[0].mail, late);
    let again = claimed(9, 10).await;
    assert_eq!((&again[0].mail, again[0].attempts), (&early, 2));
}

/// Readiness, when all is well.
pub async fn a_working_store_checks_out(store: Arc<dyn Store>) {
    store.check().await.unwrap();
}
