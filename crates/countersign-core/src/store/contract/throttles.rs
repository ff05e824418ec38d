//! Counters of attempts: exact, however many attempt at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::after;
use crate::audit::{AuditQuery, Event, Trail};
use crate::store::Store;
use crate::throttle::{AttemptOutcome, Limit, Refund, Reservation, ThrottleKey};
use crate::user::UserId;

const LIMIT: Limit = Limit::growing(5, Duration::from_secs(30), Duration::from_mins(15));

fn at(number: u8, limit: Limit) -> Reservation {
    Reservation {
        key: ThrottleKey([number; 16]),
        limit,
        is_silent: false,
    }
}

/// An attempt so many seconds after the start.
async fn attempt(
    store: &dyn Store,
    reservations: &[Reservation],
    seconds: i64,
) -> Result<Vec<Refund>, Duration> {
    let outcome = store.reserve_attempt(reservations, after(seconds)).await;
    match outcome.expect("the store works") {
        AttemptOutcome::Reserved(refunds) => Ok(refunds),
        AttemptOutcome::Wait(wait) => Err(wait.retry_after),
    }
}

async fn give_back(store: &dyn Store, refunds: &[Refund], seconds: i64) {
    let given_back = store.refund_attempt(refunds, after(seconds)).await;
    given_back.expect("the store works");
}

/// The burst is free; then each attempt waits for as long as it is told, and for longer each time.
pub async fn attempts_beyond_the_burst_wait_longer_and_longer(store: Arc<dyn Store>) {
    let one = [at(1, LIMIT)];
    for _ in 0..5 {
        attempt(&*store, &one, 0).await.unwrap();
    }
    let mut now = 0;
    for wait in [30, 60, 120, 240] {
        let told = Err(Duration::from_secs(wait));
        assert_eq!(attempt(&*store, &one, now).await, told);
        // Asking again costs nothing.
        assert_eq!(attempt(&*store, &one, now).await, told);
        now += i64::try_from(wait).unwrap();
        attempt(&*store, &one, now).await.unwrap();
    }
    // Others are not concerned, and all is forgotten some day.
    attempt(&*store, &[at(2, LIMIT)], now).await.unwrap();
    for _ in 0..5 {
        attempt(&*store, &one, now + 24 * 3_600).await.unwrap();
    }
}

/// Two hundred at once, on as many connections as there are: exactly the burst passes.
pub async fn of_many_attempts_at_once_exactly_the_burst_passes(store: Arc<dyn Store>) {
    let mut attempts = JoinSet::new();
    for _ in 0..200 {
        let store = Arc::clone(&store);
        attempts.spawn(async move { attempt(&*store, &[at(1, LIMIT)], 0).await.is_ok() });
    }
    let passed = attempts.join_all().await.into_iter().filter(|it| *it);
    assert_eq!(passed.count(), 5);
}

/// Attempts that share some of their counters, in whatever order: nobody waits for somebody who waits
/// for them, and each counter lets its own burst through.
pub async fn attempts_that_share_counters_stand_in_nobodys_way(store: Arc<dyn Store>) {
    let large = Limit::steady(1_000, Duration::from_secs(1));
    let mut attempts = JoinSet::new();
    for number in 0..120 {
        let store = Arc::clone(&store);
        attempts.spawn(async move {
            let mut counters = [at(1, large), at(2, large), at(3 + number % 3, LIMIT)];
            if number % 2 == 0 {
                counters.reverse();
            }
            attempt(&*store, &counters, 0).await.is_ok()
        });
    }
    let passed = attempts.join_all().await.into_iter().filter(|it| *it);
    assert_eq!(passed.count(), 3 * 5);
}

/// Whoever must wait at one counter takes nothing from the others, and waits for the slowest.
pub async fn an_attempt_is_counted_everywhere_or_nowhere(store: Arc<dyn Store>) {
    let slow = Limit::growing(1, Duration::from_mins(2), Duration::from_mins(15));
    attempt(&*store, &[at(2, slow)], 0).await.unwrap();
    let three = [at(1, LIMIT), at(2, slow), at(3, LIMIT)];
    for _ in 0..20 {
        let told = attempt(&*store, &three, 0).await;
        assert_eq!(told, Err(Duration::from_mins(2)));
    }
    for number in [1, 3] {
        for _ in 0..5 {
            attempt(&*store, &[at(number, LIMIT)], 0).await.unwrap();
        }
        let told = attempt(&*store, &[at(number, LIMIT)], 0).await;
        assert_eq!(told, Err(Duration::from_secs(30)));
    }
}

/// A success gives back its own attempt and nobody else's.
pub async fn what_is_given_back_is_ones_own(store: Arc<dyn Store>) {
    let (both, one) = ([at(1, LIMIT), at(2, LIMIT)], [at(1, LIMIT)]);
    for _ in 0..50 {
        let reserved = attempt(&*store, &both, 0).await.unwrap();
        give_back(&*store, &reserved, 0).await;
    }
    let mine = attempt(&*store, &both, 0).await.unwrap();
    for _ in 0..4 {
        attempt(&*store, &one, 10).await.unwrap();
    }
    give_back(&*store, &mine, 20).await;
    attempt(&*store, &one, 20).await.unwrap();
    let told = attempt(&*store, &one, 20).await;
    assert_eq!(told, Err(Duration::from_secs(30)));
    // What is not there any more is given back to nobody.
    give_back(&*store, &mine, 24 * 3_600).await;
    give_back(&*store, &[], 0).await;
}

/// Successes at once, as of a class that signs in, leave nothing behind.
pub async fn successes_at_once_leave_nothing_behind(store: Arc<dyn Store>) {
    let large = Limit::steady(100, Duration::from_secs(1));
    let mut attempts = JoinSet::new();
    for number in 0..60 {
        let store = Arc::clone(&store);
        attempts.spawn(async move {
            let counters = [at(1, large), at(10 + number, LIMIT)];
            let reserved = attempt(&*store, &counters, 0).await.unwrap();
            give_back(&*store, &reserved, 1).await;
        });
    }
    attempts.join_all().await;
    let swept = store.sweep_throttles(after(24 * 3_600), 1_000).await;
    assert_eq!(swept.expect("the store works"), 0);
    for _ in 0..100 {
        attempt(&*store, &[at(1, large)], 1).await.unwrap();
    }
}

/// Counters that are forgotten count nothing, others as before; and who has done it is kept with it.
pub async fn attempts_are_forgotten_of_some_and_not_of_others(store: Arc<dyn Store>) {
    let event = Event::PasswordReset { user: UserId(7) };
    let trail = Trail::default().with(&event, after(1), None);
    for number in 1..=3 {
        for _ in 0..5 {
            attempt(&*store, &[at(number, LIMIT)], 0).await.unwrap();
        }
    }
    let keys = [1, 3, 9].map(|number| at(number, LIMIT).key);
    let forgotten = store.forget_attempts(&keys, &trail).await;
    forgotten.expect("the store works");
    for number in [1, 3] {
        for _ in 0..5 {
            attempt(&*store, &[at(number, LIMIT)], 0).await.unwrap();
        }
    }
    let told = attempt(&*store, &[at(2, LIMIT)], 0).await;
    assert_eq!(told, Err(Duration::from_secs(30)));
    let query = AuditQuery {
        user: Some(UserId(7)),
        session: None,
        event: None,
        since: None,
        until: None,
        after: None,
        limit: 10,
    };
    assert_eq!(store.list_audit(&query).await.unwrap().len(), 1);
}

/// What is forgotten is removed, in batches; the rest stays.
pub async fn counters_that_are_forgotten_are_removed(store: Arc<dyn Store>) {
    for number in 0..10 {
        attempt(&*store, &[at(number, LIMIT)], 0).await.unwrap();
    }
    for _ in 0..5 {
        attempt(&*store, &[at(99, LIMIT)], 0).await.unwrap();
    }
    let sweep = async |seconds, most| {
        let swept = store.sweep_throttles(after(seconds), most).await;
        swept.expect("the store works")
    };
    assert_eq!(sweep(15 * 60 - 1, 100).await, 0);
    assert_eq!(sweep(15 * 60, 7).await, 7);
    assert_eq!(sweep(15 * 60, 7).await, 3);
    assert_eq!(sweep(15 * 60, 7).await, 0);
    attempt(&*store, &[at(99, LIMIT)], 15 * 60).await.unwrap();
    let told = attempt(&*store, &[at(99, LIMIT)], 15 * 60).await;
    assert_eq!(told, Err(Duration::from_secs(30)));
}

/// A counter of which nobody is told stands in nobody's way, is counted as long as there is room, and is given
/// back like any other.
pub async fn a_silent_counter_has_nobody_wait(store: Arc<dyn Store>) {
    let silent = Reservation {
        is_silent: true,
        ..at(2, LIMIT)
    };
    let mut refunds = Vec::new();
    for number in 0..5 {
        let told = at(10 + number, LIMIT);
        refunds = attempt(&*store, &[told, silent], 0).await.unwrap();
        assert_eq!(refunds.len(), 2);
    }
    let told = at(20, LIMIT);
    let counted = attempt(&*store, &[told, silent], 0).await.unwrap();
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0].key, told.key);
    give_back(&*store, &refunds, 0).await;
    let counted = attempt(&*store, &[at(21, LIMIT), silent], 0).await.unwrap();
    assert_eq!(counted.len(), 2);
}
