//! The audit log: kept with the transition that it tells of, and with nothing else.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, json};
use tokio::task::JoinSet;

use super::{after, by_service, key, open, opening, password, session_of, start, user};
use crate::audit::{AuditEntry, AuditPosition, AuditQuery, Caller, RecordedEntry, Trail};
use crate::session::{EndReason, EndedBy, SessionEnd, SessionId, SessionLimits};
use crate::store::{
    AccountChange, AccountChangeKind, KeyState, OpenOutcome, OpenSession, PasswordChange,
    PasswordOutcome, SessionSweep, Store, TakeOver,
};
use crate::user::{Email, NewUser, PersonName, ProfileChange, User, UserId, Username};

const EVERYTHING: AuditQuery = AuditQuery {
    user: None,
    session: None,
    event: None,
    since: None,
    until: None,
    after: None,
    limit: 1_000,
};

fn caller() -> Caller {
    Caller {
        address: Some("2001:db8::7".parse().expect("an address")),
        user_agent: Some("curl/8 \"quoted\" Zoë".to_owned()),
        request_id: Some("7f3a".to_owned()),
    }
}

fn entry(event: &str, at: Timestamp) -> AuditEntry {
    AuditEntry {
        at,
        event: event.to_owned(),
        user: None,
        session: None,
        by: None,
        caller: Caller::default(),
        details: Map::new(),
        count: 1,
    }
}

/// A trail with one entry of an event of this name.
fn trail(event: &str) -> Trail {
    Trail {
        caller: caller(),
        entries: vec![AuditEntry {
            caller: caller(),
            ..entry(event, after(60))
        }],
    }
}

async fn listed(store: &dyn Store, query: &AuditQuery) -> Vec<RecordedEntry> {
    store.list_audit(query).await.expect("the store works")
}

fn events(recorded: &[RecordedEntry]) -> Vec<&str> {
    let events = recorded.iter().map(|recorded| &*recorded.entry.event);
    events.collect()
}

/// Someone who looks into the log now and then.
#[derive(Default)]
struct Reader {
    seen: i64,
}

impl Reader {
    /// What has come since, in the order in which it was written.
    async fn news(&mut self, store: &dyn Store) -> Vec<RecordedEntry> {
        let mut news = listed(store, &EVERYTHING).await;
        news.retain(|recorded| recorded.number > self.seen);
        news.sort_by_key(|recorded| recorded.number);
        self.seen = news.last().map_or(self.seen, |last| last.number);
        news
    }

    /// Requires that a transition left the entry that it carries, and one of each session that ended.
    async fn expect(&mut self, store: &dyn Store, event: &str, ended: &[(SessionId, EndReason)]) {
        let news = self.news(store).await;
        let carried: Vec<_> = news
            .iter()
            .filter(|recorded| recorded.entry.event == event)
            .collect();
        assert_eq!(carried.len(), 1, "{event}: {news:?}");
        assert_eq!(carried[0].entry.caller, caller(), "{event}");
        let mut ends: Vec<_> = news
            .iter()
            .filter(|recorded| recorded.entry.event == "session_ended")
            .map(|recorded| {
                assert_eq!(recorded.entry.caller, caller(), "{event}");
                assert!(recorded.entry.by.is_some() && recorded.entry.user.is_some());
                let reason = recorded.entry.details["reason"].as_str();
                (
                    recorded.entry.session.expect("a session ended"),
                    reason.and_then(EndReason::from_code).expect("a reason"),
                )
            })
            .collect();
        ends.sort_by_key(|(id, _)| *id);
        let mut expected = ended.to_vec();
        expected.sort_by_key(|(id, _)| *id);
        assert_eq!(ends, expected, "{event}");
        assert_eq!(news.len(), 1 + ended.len(), "{event}: {news:?}");
    }
}

fn end(reason: EndReason) -> SessionEnd {
    by_service().because(reason)
}

/// Those that make a user and that open and end sessions.
pub async fn a_transition_leaves_what_it_carries_and_an_entry_of_each_session_that_ends(
    store: Arc<dyn Store>,
) {
    let store = &*store;
    let mut log = Reader::default();
    let new = NewUser {
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        username: Username::parse("ana").unwrap(),
        email: Email::default(),
        password: password("ana"),
        is_staff: false,
        is_superuser: false,
        date_joined: start(),
    };
    let ana = store.create_user(&new, &trail("made")).await.unwrap();
    let news = log.news(store).await;
    assert_eq!(events(&news), ["made"]);
    assert_eq!(news[0].entry.user, Some(ana.id), "it concerns whom it made");

    let profile = ProfileChange::default();
    let changed = store
        .update_profile(ana.id, &profile, &trail("renamed"))
        .await;
    assert!(changed.unwrap().is_some());
    log.expect(store, "renamed", &[]).await;

    let first = signed_in(store, &ana, None, &mut log).await;
    let second = signed_in(store, &ana, Some(first), &mut log).await;
    let third = signed_in(store, &ana, None, &mut log).await;

    let taken_over = TakeOver {
        trail: trail("taken over"),
        most: std::num::NonZeroU32::new(1),
        ..super::take_over_of(ana.id)
    };
    store.take_over(&taken_over).await.unwrap();
    let fourth = taken_over.session.id;
    let many = EndReason::TooManySessions;
    log.expect(store, "taken over", &[(second, many), (third, many)])
        .await;

    let logout = EndReason::Logout;
    let ended = store.end_session(fourth, end(logout), &trail("one")).await;
    assert!(ended.unwrap());
    log.expect(store, "one", &[(fourth, logout)]).await;

    let (fifth, sixth) = (
        signed_in(store, &ana, None, &mut log).await,
        signed_in(store, &ana, None, &mut log).await,
    );
    let revoked = EndReason::RevokedByUser;
    let ended = store
        .end_sessions(ana.id, Some(sixth), end(revoked), &trail("others"))
        .await;
    assert_eq!(ended.unwrap().len(), 1);
    log.expect(store, "others", &[(fifth, revoked)]).await;
    let none = store
        .end_sessions(ana.id, Some(sixth), end(revoked), &trail("no others"))
        .await;
    assert!(none.unwrap().is_empty());
    log.expect(store, "no others", &[]).await;
}

/// Those of an account, of the keys, and upkeep's.
pub async fn a_change_leaves_what_it_carries_and_outlives_the_user(store: Arc<dyn Store>) {
    let store = &*store;
    let mut log = Reader::default();
    let ana = user(store, "ana").await;
    let sixth = signed_in(store, &ana, None, &mut log).await;
    let seventh = signed_in(store, &ana, None, &mut log).await;
    let change = PasswordChange {
        user: ana.id,
        session: seventh,
        verified: password("ana"),
        new: password("new"),
        ending: by_service(),
        mail: None,
        trail: trail("own password"),
    };
    let outcome = store.change_password(&change).await.unwrap();
    assert!(matches!(outcome, PasswordOutcome::Changed(_)));
    let changed = EndReason::PasswordChanged;
    log.expect(store, "own password", &[(sixth, changed)]).await;

    let change = |kind, event| AccountChange {
        user: ana.id,
        kind,
        ending: by_service(),
        mail: None,
        trail: trail(event),
    };
    let set = change(AccountChangeKind::Password(password("ana")), "set");
    store.change_account(&set).await.unwrap();
    log.expect(store, "set", &[(seventh, changed)]).await;
    let kept = change(AccountChangeKind::Active(true), "activated");
    store.change_account(&kept).await.unwrap();
    log.expect(store, "activated", &[]).await;

    let ring = [key("one", KeyState::Current)];
    let swapped = store.swap_signing_keys(&[], &ring, &trail("keys")).await;
    swapped.unwrap();
    log.expect(store, "keys", &[]).await;

    let eighth = signed_in(store, &ana, None, &mut log).await;
    let sweep = SessionSweep {
        after: None,
        limit: 100,
        limits: SessionLimits::default(),
        now: after(60 * 24 * 3_600),
        forget_before: start(),
    };
    assert_eq!(store.sweep_sessions(&sweep).await.unwrap().expired, 1);
    let news = log.news(store).await;
    let [expired] = &*news else {
        panic!("not one: {news:?}")
    };
    let RecordedEntry { entry, .. } = expired;
    assert_eq!(entry.session, Some(eighth));
    assert_eq!(entry.details["reason"], "expired");
    assert_eq!(
        (entry.by, entry.user),
        (Some(EndedBy::Service), Some(ana.id))
    );
    assert_eq!(entry.caller, Caller::default());

    let ninth = signed_in(store, &ana, None, &mut log).await;
    let deleted = store
        .delete_user(ana.id, by_service(), &trail("deleted"))
        .await;
    assert!(deleted.unwrap().is_some());
    let gone = EndReason::UserDeleted;
    log.expect(store, "deleted", &[(ninth, gone)]).await;
    let query = AuditQuery {
        user: Some(ana.id),
        ..EVERYTHING
    };
    assert!(
        listed(store, &query).await.len() == 4,
        "they outlive the user"
    );
}

/// Opens a session, and requires its entries.
async fn signed_in(
    store: &dyn Store,
    user: &User,
    replaced: Option<SessionId>,
    log: &mut Reader,
) -> SessionId {
    let opening = OpenSession {
        replaced,
        trail: trail("signed in"),
        ..opening(user)
    };
    let outcome = store.open_session(&opening).await.unwrap();
    assert!(matches!(outcome, OpenOutcome::Opened { .. }), "{outcome:?}");
    let ended = replaced.map(|replaced| (replaced, EndReason::ReplacedByLogin));
    log.expect(store, "signed in", ended.as_slice()).await;
    opening.session.id
}

/// Whatever a transition refuses leaves no entry.
pub async fn what_is_not_done_leaves_nothing(store: Arc<dyn Store>) {
    let store = &*store;
    let ana = user(store, "ana").await;
    let nobody = UserId(ana.id.0 + 1);
    let is_nobody = |found: bool| assert!(!found);

    let new = NewUser {
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        username: Username::parse("ana").unwrap(),
        email: Email::default(),
        password: password("ana"),
        is_staff: false,
        is_superuser: false,
        date_joined: start(),
    };
    assert!(store.create_user(&new, &trail("made")).await.is_err());
    let profile = ProfileChange::default();
    let renamed = store
        .update_profile(nobody, &profile, &trail("renamed"))
        .await;
    is_nobody(renamed.unwrap().is_some());
    let outdated = OpenSession {
        verified: password("old"),
        trail: trail("signed in"),
        ..opening(&ana)
    };
    let outcome = store.open_session(&outdated).await.unwrap();
    assert_eq!(outcome, OpenOutcome::Changed);
    let change = AccountChange {
        user: nobody,
        kind: AccountChangeKind::Active(false),
        ending: by_service(),
        mail: None,
        trail: trail("deactivated"),
    };
    is_nobody(store.change_account(&change).await.unwrap().is_some());
    let session = open(store, &ana).await.id;
    let change = PasswordChange {
        user: ana.id,
        session,
        verified: password("old"),
        new: password("new"),
        ending: by_service(),
        mail: None,
        trail: trail("own password"),
    };
    let outcome = store.change_password(&change).await.unwrap();
    assert_eq!(outcome, PasswordOutcome::Outdated);
    let no_session = session_of(ana.id).id;
    let ended = store
        .end_session(no_session, end(EndReason::Logout), &trail("one"))
        .await;
    is_nobody(ended.unwrap());
    let seen = [key("another", KeyState::Current)];
    let swapped = store.swap_signing_keys(&seen, &[], &trail("keys")).await;
    assert_eq!(swapped.unwrap(), []);
    let deleted = store
        .delete_user(nobody, by_service(), &trail("deleted"))
        .await;
    is_nobody(deleted.unwrap().is_some());
    let taken_over = TakeOver {
        trail: trail("taken over"),
        ..super::take_over_of(nobody)
    };
    store.take_over(&taken_over).await.unwrap();

    assert_eq!(listed(store, &EVERYTHING).await, []);
}

/// A transition that cannot know whether it was made may be tried again.
pub async fn an_opening_that_is_tried_again_leaves_its_entries_once(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let opening = OpenSession {
        trail: trail("signed in"),
        ..opening(&ana)
    };
    for _ in 0..2 {
        let outcome = store.open_session(&opening).await.unwrap();
        assert!(matches!(outcome, OpenOutcome::Opened { .. }));
    }
    let entries = listed(&*store, &EVERYTHING).await;
    assert_eq!(events(&entries), ["signed in"]);
}

/// With all there is to an entry, and with nothing.
pub async fn an_entry_is_read_as_it_was_written(store: Arc<dyn Store>) {
    let full = AuditEntry {
        at: Timestamp::from_millisecond(1_795_341_600_001).unwrap(),
        event: "throttled".to_owned(),
        user: Some(UserId(7)),
        session: Some(session_of(UserId(7)).id),
        by: Some(EndedBy::User(UserId(8))),
        caller: caller(),
        details: Map::from_iter([("limit".to_owned(), json!("a \"b\" \n {c}"))]),
        count: u32::MAX,
    };
    let by = |by| AuditEntry {
        by,
        ..entry("other", start())
    };
    let written = [
        full,
        by(None),
        by(Some(EndedBy::CommandLine)),
        by(Some(EndedBy::Service)),
    ];
    store.record_audit(&written).await.unwrap();
    store.record_audit(&[]).await.unwrap();
    let mut read = listed(&*store, &EVERYTHING).await;
    read.sort_by_key(|recorded| recorded.number);
    let read: Vec<_> = read.into_iter().map(|recorded| recorded.entry).collect();
    assert_eq!(read, written);
}

/// Each condition alone, and all together; entries of one moment in the order in which they were written.
pub async fn entries_are_listed_newest_first_in_pages_and_by_what_they_concern(
    store: Arc<dyn Store>,
) {
    let (ana, bob) = (UserId(1), UserId(2));
    let session = session_of(ana).id;
    let concerning = |event, user, session, seconds| AuditEntry {
        user,
        session,
        ..entry(event, after(seconds))
    };
    let written = [
        concerning("a", Some(ana), Some(session), 1),
        concerning("b", Some(bob), None, 2),
        concerning("c", Some(ana), None, 2),
        concerning("d", None, None, 2),
        concerning("a", Some(ana), None, 4),
        // Written late.
        concerning("e", Some(bob), None, 0),
    ];
    store.record_audit(&written).await.unwrap();
    let cases = [
        (EVERYTHING, "a d c b a e"),
        (
            AuditQuery {
                user: Some(ana),
                ..EVERYTHING
            },
            "a c a",
        ),
        (
            AuditQuery {
                session: Some(session),
                ..EVERYTHING
            },
            "a",
        ),
        (
            AuditQuery {
                event: Some("a".to_owned()),
                ..EVERYTHING
            },
            "a a",
        ),
        (
            AuditQuery {
                event: Some("'; --\0".to_owned()),
                ..EVERYTHING
            },
            "",
        ),
        (
            AuditQuery {
                since: Some(after(2)),
                ..EVERYTHING
            },
            "a d c b",
        ),
        (
            AuditQuery {
                until: Some(after(2)),
                ..EVERYTHING
            },
            "a e",
        ),
        (
            AuditQuery {
                limit: 2,
                ..EVERYTHING
            },
            "a d",
        ),
        (
            AuditQuery {
                user: Some(ana),
                session: Some(session),
                event: Some("a".to_owned()),
                since: Some(after(1)),
                until: Some(after(2)),
                after: Some((after(2), 0)),
                limit: 10,
            },
            "a",
        ),
    ];
    for (query, expected) in cases {
        let entries = listed(&*store, &query).await;
        assert_eq!(events(&entries).join(" "), expected, "{query:?}");
    }
    let mut page = AuditQuery {
        limit: 1,
        ..EVERYTHING
    };
    let mut paged = Vec::new();
    while let [recorded] = &*listed(&*store, &page).await {
        page.after = Some((recorded.entry.at, recorded.number));
        paged.push(recorded.entry.event.clone());
    }
    assert_eq!(paged.join(" "), "a d c b a e");
}

/// In whichever order their transactions end.
pub async fn whoever_follows_the_log_misses_nothing_that_many_write_at_once(store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const EACH: usize = 50;
    let past = [entry("past", start())];
    store.record_audit(&past).await.unwrap();
    let mut position = store.audit_end().await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in 0..EACH {
                let entries = [entry(&format!("{writer}.{number}"), after(1))];
                store.record_audit(&entries).await.unwrap();
            }
        });
    }
    // Where transactions overlap, the end is a little before the last entry.
    let is_news = |event: &String| event != "past";
    let mut followed = Vec::new();
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while followed.len() < WRITERS * EACH && tokio::time::Instant::now() < patience {
        let next = follow(&*store, &mut position, 7).await;
        followed.extend(next.into_iter().filter(is_news));
        tokio::task::yield_now().await;
    }
    writers.join_all().await;
    assert_eq!(
        follow(&*store, &mut position, 7).await,
        Vec::<String>::new()
    );
    for writer in 0..WRITERS {
        let prefix = format!("{writer}.");
        let of_writer = followed.iter().filter(|event| event.starts_with(&prefix));
        let expected: Vec<_> = (0..EACH)
            .map(|number| format!("{prefix}{number}"))
            .collect();
        assert_eq!(of_writer.cloned().collect::<Vec<_>>(), expected);
    }
    assert_eq!(followed.len(), WRITERS * EACH, "each once");
}

async fn follow(store: &dyn Store, position: &mut AuditPosition, most: u32) -> Vec<String> {
    let next = store.follow_audit(*position, most).await.unwrap();
    assert!(next.len() <= most as usize);
    let events = next.into_iter().map(|(at, recorded)| {
        *position = at;
        recorded.entry.event
    });
    events.collect()
}

/// The oldest first; never one that is not old.
pub async fn old_entries_are_removed_in_steps(store: Arc<dyn Store>) {
    let ages = [30, 10, 20, 40].map(|seconds| entry(&seconds.to_string(), after(seconds)));
    store.record_audit(&ages).await.unwrap();
    let left = async || {
        let left = listed(&*store, &EVERYTHING).await;
        events(&left).join(" ")
    };
    assert_eq!(store.sweep_audit(after(40), 2).await.unwrap(), 2);
    let after_one_step = left().await;
    assert!(after_one_step.starts_with("40") && after_one_step.len() == 5);
    assert_eq!(store.sweep_audit(after(40), 2).await.unwrap(), 1);
    assert_eq!(store.sweep_audit(after(40), 2).await.unwrap(), 0);
    assert_eq!(left().await, "40");
    // A number is not given again to another entry.
    let end = store.audit_end().await.unwrap();
    assert_eq!(store.sweep_audit(after(50), 2).await.unwrap(), 1);
    store.record_audit(&ages[..1]).await.unwrap();
    let mut position = end;
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut followed = Vec::new();
    while followed.is_empty() && tokio::time::Instant::now() < patience {
        followed = follow(&*store, &mut position, 7).await;
    }
    assert_eq!(followed, ["30"]);
}
