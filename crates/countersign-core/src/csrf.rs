//! The CSRF token: one per session, derived from the session's id.
//!
//! Nothing is stored. The check compares what a request shows in `X-CSRFToken` with the value derived
//! from the session of *the credential presented*, so that a cookie planted by a neighbour proves
//! nothing. The form, 32 characters of `[A-Za-z0-9]`, is the one that Django takes as its own secret.

use std::fmt;

use aws_lc_rs::hmac;
use countersign_token::csrf;

use crate::clock::Randomness;
use crate::secrets::{Purpose, RootSecret, RootSecrets};
use crate::session::SessionId;

const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// The largest multiple of 62 that a byte can hold: bytes from here up are dropped, so that every
/// character is as likely as any other.
const UNBIASED: u8 = 62 * 4;

/// Derives CSRF tokens, and compares what is shown with them.
#[derive(Clone)]
pub struct CsrfKey {
    current: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl CsrfKey {
    /// The keys derived from the root secrets for this purpose.
    pub fn derive(roots: impl Into<RootSecrets>) -> Self {
        let roots = roots.into();
        let key = |root: &RootSecret| root.mac_key(Purpose::CsrfToken);
        Self {
            current: key(&roots.current),
            previous: roots.previous.iter().map(key).collect(),
        }
    }

    /// The token of one session.
    pub fn token(&self, session: SessionId) -> CsrfToken {
        token(&self.current, session)
    }

    /// Whether a header shows the token of a session, also one made under a previous root secret: pages
    /// hold theirs for as long as they are open.
    pub fn accepts(&self, session: SessionId, shown: &str) -> bool {
        let mut keys = std::iter::once(&self.current).chain(&self.previous);
        keys.any(|key| token(key, session).matches(shown))
    }
}

fn token(key: &hmac::Key, session: SessionId) -> CsrfToken {
    let mut block = 0_u8;
    CsrfToken::from_bytes(|bytes| {
        let mut context = hmac::Context::with_key(key);
        context.update(session.0.as_bytes());
        context.update(&[block]);
        bytes.copy_from_slice(context.sign().as_ref());
        block = block.wrapping_add(1);
    })
}

impl fmt::Debug for CsrfKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CsrfKey(redacted)")
    }
}

/// 32 characters of `[A-Za-z0-9]`. `Debug` shows nothing of them.
#[derive(Clone)]
pub struct CsrfToken(String);

impl CsrfToken {
    /// One that belongs to no session, for visitors who have none: it satisfies clients that insist
    /// on holding one before login, and proves nothing.
    pub fn anonymous(randomness: &dyn Randomness) -> Self {
        Self::from_bytes(|bytes| randomness.fill(bytes))
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a header shows this token, plain or in Django's masked form. Constant time.
    pub fn matches(&self, presented: &str) -> bool {
        csrf::matches(presented, &self.0)
    }

    /// The `csrf` claim of access tokens: base64url of the token's SHA-256.
    pub fn claim(&self) -> String {
        csrf::claim(&self.0)
    }

    fn from_bytes(mut next_block: impl FnMut(&mut [u8; 32])) -> Self {
        let mut token = String::with_capacity(csrf::TOKEN_LENGTH);
        let mut block = [0; 32];
        loop {
            next_block(&mut block);
            for byte in block.into_iter().filter(|byte| *byte < UNBIASED) {
                token.push(char::from(ALPHABET[usize::from(byte % 62)]));
                if token.len() == csrf::TOKEN_LENGTH {
                    return Self(token);
                }
            }
        }
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CsrfToken(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::SystemRandomness;

    fn key() -> CsrfKey {
        CsrfKey::derive(&RootSecret::generate(&SystemRandomness))
    }

    fn session() -> SessionId {
        SessionId::new(Timestamp::UNIX_EPOCH, &SystemRandomness)
    }

    #[test]
    fn a_session_has_one_token_and_another_session_another() {
        let (key, one, other) = (key(), session(), session());
        assert!(key.token(one).matches(key.token(one).as_str()));
        assert!(!key.token(one).matches(key.token(other).as_str()));
    }

    #[test]
    fn another_root_secret_gives_another_token() {
        let session = session();
        assert!(!key().token(session).matches(key().token(session).as_str()));
    }

    #[test]
    fn a_token_is_32_letters_and_digits() {
        let key = key();
        for _ in 0..1_000 {
            let token = key.token(session());
            assert_eq!(token.as_str().len(), 32);
            assert!(
                token
                    .as_str()
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric())
            );
        }
    }

    #[test]
    fn an_anonymous_token_is_not_that_of_any_session() {
        let anonymous = CsrfToken::anonymous(&SystemRandomness);
        assert!(!key().token(session()).matches(anonymous.as_str()));
    }
}
