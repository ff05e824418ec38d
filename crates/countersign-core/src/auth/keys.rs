//! Signing keys: listed, rotated, revoked.

use countersign_token::Algorithm;
use jiff::Timestamp;

use super::{Auth, DECISIONS};
use crate::audit::{Actor, Event, Trail};
use crate::clock::Randomness;
use crate::error::{AuthError, StoreError};
use crate::keys::{KeyKeeper, KeyRing, PublicKeys};
use crate::session::EndedBy;
use crate::store::{KeyState, SealedSigningKey, Store};

/// A signing key and where it stands, without its private part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyStatus {
    /// The RFC 7638 thumbprint of the public key.
    pub kid: String,
    /// The algorithm it signs with.
    pub algorithm: Algorithm,
    /// Where it stands in its life.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is in its state.
    pub state_since: Timestamp,
    /// When it comes to its next state: the next key signs, the current one is succeeded, a retired or
    /// revoked one is removed.
    pub changes_at: Timestamp,
}

/// What became of a rotation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRotation {
    /// A new key is published, and signs from `changes_at` on.
    Published(SigningKeyStatus),
    /// One had been published already, and signs from `changes_at` on.
    UnderWay(SigningKeyStatus),
    /// Another key signs now.
    Signing(SigningKeyStatus),
    /// There are no keys to rotate: tokens are signed with a shared secret, from the settings.
    SharedSecret,
}

impl Auth {
    /// The public keys, as served to resource servers.
    ///
    /// While the store is away these are the last known: they are public, and whoever holds a token
    /// can go on.
    pub async fn public_keys(&self) -> PublicKeys {
        let _last_known_if_the_store_is_away = self.catch_up().await;
        self.keys().public().clone()
    }

    /// The names of the algorithms that access tokens are signed with: the one that is set, and those
    /// of the published keys before it.
    pub fn signing_algorithms(&self) -> Vec<&'static str> {
        let wanted = &self.settings.tokens.algorithm;
        let mut names = vec![wanted.name()];
        for key in self.keys().verifying_keys() {
            let name = wanted.name_for(key.algorithm());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The signing keys, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_keys(&self) -> Result<Vec<SigningKeyStatus>, AuthError> {
        let stored = self.store.signing_keys().await?;
        Ok(stored.iter().map(|key| self.status(key, &stored)).collect())
    }

    /// Publishes a new key, which signs once every resource server has had the time to fetch it; or
    /// has it sign `at_once`, which those who have not fetched it yet answer with a refusal.
    ///
    /// # Errors
    /// The store's.
    pub async fn rotate_keys(
        &self,
        at_once: bool,
        by: impl Into<Actor>,
    ) -> Result<KeyRotation, AuthError> {
        if self.settings.tokens.algorithm.is_shared_secret() {
            return Ok(KeyRotation::SharedSecret);
        }
        let (changed, ring) = self
            .change_keys(&by.into(), |keeper, stored| {
                keeper.rotated(stored, at_once, self.clock.now(), &*self.randomness)
            })
            .await?;
        let newest = ring
            .iter()
            .find(|key| matches!(key.state, KeyState::Next | KeyState::Current))
            .ok_or_else(|| StoreError::Corrupt("the key ring is empty".to_owned()))?;
        let newest = self.status(newest, &ring);
        Ok(match (changed, newest.state) {
            (true, KeyState::Current) => KeyRotation::Signing(newest),
            (true, _) => KeyRotation::Published(newest),
            (false, _) => KeyRotation::UnderWay(newest),
        })
    }

    /// Takes the trust from a key: its tokens are refused at once, here and by whoever follows the
    /// revocation feed. If it was the current one, another signs from now on.
    ///
    /// # Errors
    /// [`AuthError::NoSuchKey`] if there is none of this name that has not been revoked, or the
    /// store's.
    pub async fn revoke_key(&self, kid: &str, by: impl Into<Actor>) -> Result<(), AuthError> {
        let (changed, _) = self
            .change_keys(&by.into(), |keeper, stored| {
                keeper.revoked(stored, kid, self.clock.now(), &*self.randomness)
            })
            .await?;
        if changed {
            Ok(())
        } else {
            Err(AuthError::NoSuchKey)
        }
    }

    /// Does what the keys' schedule says is due.
    pub(super) async fn move_keys(&self) -> Result<(), AuthError> {
        let due = |keeper: &KeyKeeper, stored: &[SealedSigningKey]| {
            keeper.due(stored, self.clock.now(), &*self.randomness)
        };
        self.change_keys(&EndedBy::Service.into(), due)
            .await
            .map(drop)
    }

    /// Decides on another ring and swaps it in, or decides again if someone else was faster. Gives
    /// whether it was changed, and the ring as it stands.
    async fn change_keys(
        &self,
        by: &Actor,
        decide: impl Fn(&KeyKeeper, &[SealedSigningKey]) -> Option<Vec<SealedSigningKey>>,
    ) -> Result<(bool, Vec<SealedSigningKey>), AuthError> {
        let _one_for_all = self.catching_up.lock().await;
        let mut stored = self.store.signing_keys().await?;
        for _ in 0..DECISIONS {
            let Some(wanted) = decide(&self.key_keeper, &stored) else {
                self.use_keys(stored.clone())?;
                return Ok((false, stored));
            };
            let moves = moves(&stored, &wanted);
            let trail = trail_of(&moves, by, self.clock.now());
            let standing = self
                .store
                .swap_signing_keys(&stored, &wanted, &trail)
                .await?;
            if standing == wanted {
                moves.iter().for_each(Event::tell);
                self.use_keys(wanted.clone())?;
                return Ok((true, wanted));
            }
            stored = standing;
        }
        let cause = "the key ring is changed by others all the time".to_owned();
        Err(AuthError::Store(StoreError::Unavailable(cause)))
    }

    fn status(&self, key: &SealedSigningKey, ring: &[SealedSigningKey]) -> SigningKeyStatus {
        SigningKeyStatus {
            kid: key.kid.clone(),
            algorithm: key.algorithm,
            state: key.state,
            created_at: key.created_at,
            state_since: key.state_since,
            changes_at: self.key_keeper.changes_at(key, ring),
        }
    }
}

/// Opens the ring at start, with what is due done if that can be done.
pub(super) async fn open(
    store: &dyn Store,
    keeper: &KeyKeeper,
    now: Timestamp,
    randomness: &dyn Randomness,
) -> Result<KeyRing, StoreError> {
    let stored = store.signing_keys().await?;
    let Some(due) = keeper.due(&stored, now, randomness) else {
        return keeper.open(stored);
    };
    // Under a wrong root secret nothing may be written.
    keeper.check_seals(&stored)?;
    let moves = moves(&stored, &due);
    let trail = trail_of(&moves, &EndedBy::Service.into(), now);
    match store.swap_signing_keys(&stored, &due, &trail).await {
        Ok(standing) => {
            if standing == due {
                moves.iter().for_each(Event::tell);
            }
            keeper.open(standing)
        }
        // What is due can wait until the store takes it; a first key cannot.
        Err(error) => keeper.open(stored).map_err(|_| error),
    }
}

/// An event for every key that is in another state than before.
fn moves<'ring>(
    before: &'ring [SealedSigningKey],
    after: &'ring [SealedSigningKey],
) -> Vec<Event<'ring>> {
    let moved = after.iter().filter_map(|key| {
        let was = before.iter().find(|known| known.kid == key.kid);
        let is_moved = was.is_none_or(|was| was.state != key.state);
        is_moved.then_some((key, key.state.code()))
    });
    let removed = before.iter().filter_map(|key| {
        let is_removed = after.iter().all(|known| known.kid != key.kid);
        is_removed.then_some((key, "removed"))
    });
    let event = |(key, state): (&'ring SealedSigningKey, _)| Event::SigningKeyMoved {
        kid: &key.kid,
        state,
    };
    moved.chain(removed).map(event).collect()
}

fn trail_of(moves: &[Event<'_>], by: &Actor, now: Timestamp) -> Trail {
    let trail = Trail::of(&by.caller);
    moves
        .iter()
        .fold(trail, |trail, moved| trail.with(moved, now, Some(by.by)))
}
