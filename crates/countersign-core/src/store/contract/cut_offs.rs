//! Cut-offs: what ends all sessions of a user also ends what could still become one.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    after, end_reason, open, opening, password, rotate, session, take_over, take_over_of, user,
};
use crate::audit::Trail;
use crate::session::{EndReason, EndedBy, Session};
use crate::store::{
    AccountChange, AccountChangeKind, EndedAt, OpenSession, PasswordChange, PasswordOutcome, Store,
    TakeOver, TakeOverOutcome,
};
use crate::user::User;

/// What ends all sessions of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    NewPassword,
    Deactivation,
    Roles,
    OwnPassword,
    AllSessions,
    AllButOne,
}

impl Ending {
    const ALL: [Self; 6] = [
        Self::NewPassword,
        Self::Deactivation,
        Self::Roles,
        Self::OwnPassword,
        Self::AllSessions,
        Self::AllButOne,
    ];

    /// Does it, asked for by a session of the user's.
    async fn happens(self, store: &dyn Store, user: &User, asking: &Session, at: Timestamp) {
        let ending = EndedAt {
            at,
            by: EndedBy::User(user.id),
        };
        match self {
            Self::NewPassword => {
                change(
                    store,
                    user,
                    AccountChangeKind::Password(password("new")),
                    at,
                )
                .await;
            }
            Self::Deactivation => {
                change(store, user, AccountChangeKind::Active(false), at).await;
                let later = at + SignedDuration::from_hours(1);
                change(store, user, AccountChangeKind::Active(true), later).await;
            }
            Self::Roles => change(store, user, roles(true), at).await,
            Self::OwnPassword => {
                let change = PasswordChange {
                    user: user.id,
                    session: asking.id,
                    verified: password(&user.username),
                    // The same words: so it can be changed again.
                    new: password(&user.username),
                    ending,
                    mail: None,
                    trail: Trail::default(),
                };
                let outcome = store.change_password(&change).await.unwrap();
                assert!(matches!(outcome, PasswordOutcome::Changed(_)));
            }
            Self::AllSessions | Self::AllButOne => {
                let spared = (self == Self::AllButOne).then_some(asking.id);
                let end = ending.because(EndReason::RevokedByUser);
                store
                    .end_sessions(user.id, spared, end, &Trail::default())
                    .await
                    .unwrap();
            }
        }
    }
}

fn roles(is_staff: bool) -> AccountChangeKind {
    AccountChangeKind::Roles {
        is_staff,
        is_superuser: false,
    }
}

async fn change(store: &dyn Store, user: &User, kind: AccountChangeKind, at: Timestamp) {
    let change = AccountChange {
        user: user.id,
        kind,
        ending: EndedAt {
            at,
            by: EndedBy::Service,
        },
        mail: None,
        trail: Trail::default(),
    };
    let changed = store.change_account(&change).await.unwrap();
    changed.expect("the user is there");
}

/// The exchange of a token that was issued then, and of no other.
fn issued(user: &User, at: Timestamp) -> TakeOver {
    let mut takeover = take_over_of(user.id);
    takeover.session.opened_at = at;
    takeover
}

async fn is_exchanged(store: &dyn Store, takeover: &TakeOver) -> bool {
    match take_over(store, takeover).await {
        TakeOverOutcome::TakenOver { .. } => {
            assert_eq!(end_reason(store, takeover.session.id).await, None);
            true
        }
        TakeOverOutcome::CutOff => {
            let found = store.find_session(takeover.session.id).await.unwrap();
            assert_eq!(found, None, "nothing is recorded");
            false
        }
        outcome => panic!("{outcome:?}"),
    }
}

/// Within the same second, too, for a token says no finer when it was issued; and nobody else's.
pub async fn whatever_ends_all_sessions_refuses_the_tokens_issued_until_then(
    store: Arc<dyn Store>,
) {
    let bob = user(&*store, "bob").await;
    for ending in Ending::ALL {
        let ana = user(&*store, &format!("{ending:?}")).await;
        let asking = open(&*store, &ana).await;
        let (old, within, later) = (
            issued(&ana, after(10)),
            issued(&ana, after(60)),
            issued(&ana, after(61)),
        );
        let at = after(60) + SignedDuration::from_millis(500);
        ending.happens(&*store, &ana, &asking, at).await;
        assert!(!is_exchanged(&*store, &old).await, "{ending:?}");
        assert!(!is_exchanged(&*store, &within).await, "{ending:?}");
        assert!(is_exchanged(&*store, &later).await, "{ending:?}");
        let bobs = issued(&bob, after(10));
        assert!(is_exchanged(&*store, &bobs).await, "{ending:?}");
    }
}

/// Nor does what ends none.
pub async fn what_ends_one_session_refuses_no_token(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let (one, replaced) = (open(&*store, &ana).await, open(&*store, &ana).await);
    let ending = EndedAt {
        at: after(60),
        by: EndedBy::User(ana.id),
    };
    let logout = ending.because(EndReason::Logout);
    assert!(
        store
            .end_session(one.id, logout, &Trail::default())
            .await
            .unwrap()
    );
    let login = OpenSession {
        replaced: Some(replaced.id),
        ..opening(&ana)
    };
    store.open_session(&login).await.unwrap();
    change(&*store, &ana, AccountChangeKind::Active(true), after(60)).await;
    change(&*store, &ana, roles(false), after(60)).await;
    assert!(is_exchanged(&*store, &issued(&ana, after(10))).await);
}

/// Whatever order the clocks of several nodes bring about.
pub async fn a_cut_off_never_moves_backwards(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let asking = open(&*store, &ana).await;
    for ending in [Ending::AllButOne, Ending::OwnPassword] {
        ending.happens(&*store, &ana, &asking, after(60)).await;
        ending.happens(&*store, &ana, &asking, after(30)).await;
        assert!(!is_exchanged(&*store, &issued(&ana, after(45))).await);
    }
    let later = Ending::AllButOne;
    later.happens(&*store, &ana, &asking, after(90)).await;
    assert!(!is_exchanged(&*store, &issued(&ana, after(75))).await);
}

/// Its session may be the one that was spared; and a token may be used up that is refused already.
pub async fn a_token_that_was_used_before_a_cut_off_stays_used(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let token = issued(&ana, after(10));
    assert!(is_exchanged(&*store, &token).await);
    let spared = session(&*store, token.session.id).await;
    let ending = Ending::AllButOne;
    ending.happens(&*store, &ana, &spared, after(60)).await;
    assert_eq!(take_over(&*store, &token).await, TakeOverOutcome::Used);
    assert!(rotate(&*store, spared.id, 1).await);

    let unused = issued(&ana, after(10));
    let mut used_up = unused.clone();
    let ending = EndedAt {
        at: after(61),
        by: EndedBy::User(ana.id),
    };
    used_up.session.end = Some(ending.because(EndReason::Logout));
    let outcome = take_over(&*store, &used_up).await;
    assert!(matches!(outcome, TakeOverOutcome::TakenOver { .. }));
    assert_eq!(take_over(&*store, &unused).await, TakeOverOutcome::Used);
    let end = end_reason(&*store, unused.session.id).await;
    assert_eq!(end, Some(EndReason::Logout));
}

/// Whoever comes first: the session is ended, or is not opened.
pub async fn no_take_over_survives_what_ends_all_sessions_meanwhile(store: Arc<dyn Store>) {
    const ROUNDS: i64 = 200;
    let ana = user(&*store, "ana").await;
    let asking = open(&*store, &ana).await;
    for ending in [Ending::OwnPassword, Ending::AllButOne] {
        for round in 0..ROUNDS {
            // Newer than every cut-off before.
            let second = round
                + if ending == Ending::OwnPassword {
                    0
                } else {
                    ROUNDS
                };
            let at = after(second);
            let token = issued(&ana, at);
            let exchange = {
                let (store, token) = (Arc::clone(&store), token.clone());
                async move { take_over(&*store, &token).await }
            };
            let end_all = {
                let (store, ana, asking) = (Arc::clone(&store), ana.clone(), asking.clone());
                async move { ending.happens(&*store, &ana, &asking, at).await }
            };
            // Each goes first as often.
            let outcome = if round % 2 == 0 {
                let exchange = tokio::spawn(exchange);
                end_all.await;
                exchange.await.unwrap()
            } else {
                let end_all = tokio::spawn(end_all);
                let outcome = exchange.await;
                end_all.await.unwrap();
                outcome
            };
            match outcome {
                TakeOverOutcome::TakenOver { .. } => {
                    let end = end_reason(&*store, token.session.id).await;
                    assert!(end.is_some(), "{ending:?}, round {round}: it lives");
                }
                TakeOverOutcome::CutOff => {}
                outcome => panic!("{ending:?}, round {round}: {outcome:?}"),
            }
        }
    }
}
