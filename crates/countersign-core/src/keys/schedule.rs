//! When a key is published, signs, retires and is forgotten. Pure.

use std::time::Duration;

use countersign_token::Algorithm;
use jiff::Timestamp;

use super::PUBLIC_KEYS_MAX_AGE;
use crate::session::saturating_add;
use crate::store::{KeyState, SealedSigningKey};

/// How far the clock of a resource server may be behind ours, and how long a token may take from its
/// signing to its last use beyond its life: the most that a verifier's leeway can be set to, and the
/// longest that one of our own requests takes.
const ALLOWANCE: Duration = Duration::from_secs(150);

/// How long it is said of a revoked key that it is. Whoever knows it can give tokens any life, so this is
/// about those who still hold it among the published keys, and much longer than they may.
const REVOKED_FOR: Duration = Duration::from_hours(24);

/// How long keys live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySchedule {
    /// How long a key signs.
    pub rotate_every: Duration,
    /// How long before that it is published.
    pub publish_before: Duration,
    /// How long the tokens that it signs live.
    pub access_lifetime: Duration,
}

impl Default for KeySchedule {
    fn default() -> Self {
        Self {
            rotate_every: Duration::from_hours(90 * 24),
            publish_before: Duration::from_hours(1),
            access_lifetime: Duration::from_mins(5),
        }
    }
}

impl KeySchedule {
    /// The least time between publishing and signing with which every resource server knows a key
    /// before it meets a token of it: its copy of the published keys is that old at most, and fetching
    /// anew takes a moment.
    pub const LEAST_PUBLISH_BEFORE: Duration =
        Duration::from_secs(PUBLIC_KEYS_MAX_AGE.as_secs() + 120);

    /// When a key that is published as the next one begins to sign.
    pub(super) fn signs_from(&self, next: &SealedSigningKey) -> Timestamp {
        saturating_add(next.state_since, self.publish_before)
    }

    /// Until when a retired key has tokens that live, or a revoked one is told of.
    pub(super) fn matters_until(&self, key: &SealedSigningKey) -> Timestamp {
        let matters_for = match key.state {
            KeyState::Revoked => REVOKED_FOR,
            KeyState::Next | KeyState::Current | KeyState::Retired => {
                self.access_lifetime + ALLOWANCE
            }
        };
        saturating_add(key.state_since, matters_for)
    }

    /// When a key of this ring comes to its next state.
    pub(super) fn changes_at(
        &self,
        key: &SealedSigningKey,
        ring: &[SealedSigningKey],
    ) -> Timestamp {
        match key.state {
            KeyState::Next => self.signs_from(key),
            KeyState::Current => match in_state(ring, KeyState::Next) {
                Some(next) => self.signs_from(next),
                None => saturating_add(self.successor_is_due(key), self.publish_before),
            },
            KeyState::Retired | KeyState::Revoked => self.matters_until(key),
        }
    }

    fn successor_is_due(&self, current: &SealedSigningKey) -> Timestamp {
        let signs_alone = self.rotate_every.saturating_sub(self.publish_before);
        saturating_add(current.state_since, signs_alone)
    }
}

/// The ring as it should be by now; as it is, if nothing is due.
pub(super) fn step(
    ring: &[SealedSigningKey],
    wanted: Algorithm,
    now: Timestamp,
    schedule: &KeySchedule,
    make: impl Fn(KeyState) -> SealedSigningKey,
) -> Vec<SealedSigningKey> {
    let mut ring = ring.to_vec();
    ring.retain(|key| match key.state {
        KeyState::Retired | KeyState::Revoked => now < schedule.matters_until(key),
        // It has signed nothing, and never will.
        KeyState::Next => key.algorithm == wanted,
        KeyState::Current => true,
    });
    let Some(current) = in_state(&ring, KeyState::Current) else {
        return promote(&ring, wanted, now, make);
    };
    match in_state(&ring, KeyState::Next) {
        Some(next) if schedule.signs_from(next) <= now => promote(&ring, wanted, now, make),
        None if current.algorithm != wanted || schedule.successor_is_due(current) <= now => {
            publish(&ring, wanted, make).unwrap_or(ring)
        }
        Some(_) | None => ring,
    }
}

/// The ring with a new key published as the next one. `None`: one is on its way already.
pub(super) fn publish(
    ring: &[SealedSigningKey],
    wanted: Algorithm,
    make: impl Fn(KeyState) -> SealedSigningKey,
) -> Option<Vec<SealedSigningKey>> {
    let next = in_state(ring, KeyState::Next).filter(|next| next.algorithm == wanted);
    if next.is_some() {
        return None;
    }
    let others = ring.iter().filter(|key| key.state != KeyState::Next);
    Some(newest_first(make(KeyState::Next), others.cloned()))
}

/// The ring with its next key, or else a new one, as the current key.
pub(super) fn promote(
    ring: &[SealedSigningKey],
    wanted: Algorithm,
    now: Timestamp,
    make: impl Fn(KeyState) -> SealedSigningKey,
) -> Vec<SealedSigningKey> {
    let moved = |key: &SealedSigningKey, state| SealedSigningKey {
        state,
        state_since: now,
        ..key.clone()
    };
    let next = in_state(ring, KeyState::Next).filter(|next| next.algorithm == wanted);
    let others = ring.iter().filter(|key| key.state != KeyState::Next);
    let others = others.map(|key| match key.state {
        KeyState::Current => moved(key, KeyState::Retired),
        KeyState::Next | KeyState::Retired | KeyState::Revoked => key.clone(),
    });
    let current = next.map_or_else(
        || make(KeyState::Current),
        |next| moved(next, KeyState::Current),
    );
    newest_first(current, others)
}

/// The ring with a key revoked and, if it was the current one, another in its place at once. `None`:
/// there is no such key, or it has been revoked before.
pub(super) fn revoke(
    ring: &[SealedSigningKey],
    kid: &str,
    wanted: Algorithm,
    now: Timestamp,
    make: impl Fn(KeyState) -> SealedSigningKey,
) -> Option<Vec<SealedSigningKey>> {
    let mut ring = ring.to_vec();
    let key = ring
        .iter_mut()
        .find(|key| key.kid == kid && key.state != KeyState::Revoked)?;
    let was_current = key.state == KeyState::Current;
    (key.state, key.state_since) = (KeyState::Revoked, now);
    if was_current {
        ring = promote(&ring, wanted, now, make);
    }
    Some(ring)
}

fn in_state(ring: &[SealedSigningKey], state: KeyState) -> Option<&SealedSigningKey> {
    ring.iter().find(|key| key.state == state)
}

fn newest_first(
    newest: SealedSigningKey,
    others: impl Iterator<Item = SealedSigningKey>,
) -> Vec<SealedSigningKey> {
    std::iter::once(newest).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const SCHEDULE: KeySchedule = KeySchedule {
        rotate_every: Duration::from_hours(90 * 24),
        publish_before: Duration::from_hours(1),
        access_lifetime: Duration::from_mins(5),
    };

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    /// A ring in the hands of a clock.
    struct Years {
        ring: Vec<SealedSigningKey>,
        now: Timestamp,
        wanted: Algorithm,
        made: Cell<u32>,
    }

    impl Years {
        fn begin() -> Self {
            let mut years = Self {
                ring: Vec::new(),
                now: start(),
                wanted: Algorithm::Es256,
                made: Cell::new(0),
            };
            years.step();
            years
        }

        fn make(&self, state: KeyState) -> SealedSigningKey {
            self.made.set(self.made.get() + 1);
            SealedSigningKey {
                kid: format!("key-{}", self.made.get()),
                algorithm: self.wanted,
                state,
                sealed: Vec::new(),
                created_at: self.now,
                state_since: self.now,
            }
        }

        fn step(&mut self) {
            self.ring = step(&self.ring, self.wanted, self.now, &SCHEDULE, |state| {
                self.make(state)
            });
        }

        fn pass(&mut self, seconds: i64) -> String {
            self.now += SignedDuration::from_secs(seconds);
            self.step();
            self.shown()
        }

        fn shown(&self) -> String {
            let keys = self.ring.iter();
            let shown: Vec<_> = keys
                .map(|key| format!("{} {}", key.kid, key.state.code()))
                .collect();
            shown.join(", ")
        }
    }

    const DAY: i64 = 24 * 3_600;
    const HOUR: i64 = 3_600;

    #[test]
    fn a_key_is_published_then_signs_then_retires_and_is_forgotten() {
        let mut years = Years::begin();
        assert_eq!(years.shown(), "key-1 current");
        assert_eq!(years.pass(90 * DAY - HOUR - 1), "key-1 current");
        assert_eq!(years.pass(1), "key-2 next, key-1 current");
        assert_eq!(years.pass(HOUR - 1), "key-2 next, key-1 current");
        assert_eq!(years.pass(1), "key-2 current, key-1 retired");
        assert_eq!(years.pass(5 * 60 + 149), "key-2 current, key-1 retired");
        assert_eq!(years.pass(1), "key-2 current");
        assert_eq!(
            years.pass(90 * DAY - HOUR - 449),
            "key-3 next, key-2 current"
        );
    }

    #[test]
    fn nothing_is_due_twice() {
        let mut years = Years::begin();
        for _ in 0..1_000 {
            years.pass(5 * HOUR);
            let ring = years.ring.clone();
            years.step();
            assert_eq!(years.ring, ring);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_due() {
        let mut years = Years::begin();
        years.pass(90 * DAY - HOUR);
        let ring = years.ring.clone();
        years.pass(-30 * DAY);
        assert_eq!(years.ring, ring);
    }

    #[test]
    fn a_new_algorithm_is_published_before_it_signs() {
        let mut years = Years::begin();
        years.wanted = Algorithm::Ed25519;
        assert_eq!(years.pass(1), "key-2 next, key-1 current");
        assert_eq!(years.pass(HOUR), "key-2 current, key-1 retired");
        // And one that was asked for and taken back never signs.
        years.wanted = Algorithm::Es256;
        years.pass(1);
        years.wanted = Algorithm::Ed25519;
        assert_eq!(years.pass(HOUR), "key-2 current");
    }

    #[test]
    fn revoking_the_current_key_puts_another_in_its_place() {
        let years = Years::begin();
        let make = |state| years.make(state);
        let ring = revoke(&years.ring, "key-1", years.wanted, years.now, make).unwrap();
        let states: Vec<_> = ring.iter().map(|key| key.state).collect();
        assert_eq!(states, [KeyState::Current, KeyState::Revoked]);
        let make = |state| years.make(state);
        assert_eq!(revoke(&ring, "key-1", years.wanted, years.now, make), None);
        let make = |state| years.make(state);
        assert_eq!(revoke(&ring, "other", years.wanted, years.now, make), None);
    }

    proptest! {
        #[test]
        fn there_always_is_one_current_key_and_every_signer_was_published_in_time(
            steps in prop::collection::vec(1..40 * HOUR, 1..200),
        ) {
            let mut years = Years::begin();
            for seconds in steps {
                let before = years.ring.clone();
                years.pass(seconds);
                let current: Vec<_> = years
                    .ring
                    .iter()
                    .filter(|key| key.state == KeyState::Current)
                    .collect();
                prop_assert_eq!(current.len(), 1);
                prop_assert!(years.ring.len() <= 3);
                let was = before.iter().find(|key| key.kid == current[0].kid).unwrap();
                if was.state == KeyState::Next {
                    let published = years.now.duration_since(was.state_since);
                    prop_assert!(published.unsigned_abs() >= SCHEDULE.publish_before);
                }
            }
        }
    }
}
