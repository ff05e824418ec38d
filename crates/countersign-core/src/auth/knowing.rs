//! Keeping what this process knows as new as the store.

use std::sync::{Arc, PoisonError};

use super::Auth;
use crate::error::StoreError;
use crate::known::Standing;
use crate::session::{EndedSession, Session};
use crate::store::SealedSigningKey;

impl Auth {
    /// Reads from the store what was missed, if anything was, and says how far what is known can be
    /// relied upon now.
    ///
    /// # Errors
    /// The store's: then nobody knows, and nothing may be decided.
    pub(super) async fn catch_up(&self) -> Result<Standing, StoreError> {
        if self.known.standing(self.clock.now()) == Standing::Current {
            return Ok(Standing::Current);
        }
        let _one_for_all = self.catching_up.lock().await;
        let now = self.clock.now();
        let standing = self.known.standing(now);
        if standing == Standing::Current {
            return Ok(standing);
        }
        let heard = self.known.heard();
        let keys = self.store.signing_keys().await?;
        if standing == Standing::Unheard {
            self.use_keys(keys)?;
            return Ok(Standing::Unheard);
        }
        let since = self.known.reaches_back_to(now);
        let ended = self.store.ended_since(since).await?;
        self.use_keys(keys)?;
        self.known.catch_up(heard, &ended, now);
        Ok(self.known.standing(now))
    }

    /// Takes note of a session that was seen to have ended. Another process may have ended it, or
    /// another request a moment ago: whoever is told so finds it refused at the next request, too.
    pub(super) fn learn_end(&self, session: &Session) {
        if let Some(end) = session.end {
            self.known.learn(&[EndedSession {
                id: session.id,
                user: session.user_id,
                end,
            }]);
        }
    }

    /// Signs and verifies with these keys from now on.
    pub(super) fn use_keys(&self, stored: Vec<SealedSigningKey>) -> Result<(), StoreError> {
        if self.keys().stored() == stored {
            return Ok(());
        }
        let keys = self.key_keeper.open(stored)?;
        let verifying = keys.verifying_keys();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        // The ring first: nothing is signed any more with a key that verifies no more. A token of a new
        // key that is met in between waits for us in `verify_as_of_now`.
        self.verifier.replace_keys(verifying);
        Ok(())
    }
}
