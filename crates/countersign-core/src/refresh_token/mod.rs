//! The refresh token: a JWT that names a session and a generation, and can be derived again.
//!
//! The same session at the same generation always gives the same bytes. Therefore nothing secret is
//! stored per token, a leaked database yields none, and a client whose reply was lost is simply sent
//! the same token again.

mod legacy;

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::hmac;
use countersign_token::{UnixSeconds, json, jws};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secrets::{Purpose, RootSecret, RootSecrets};
use crate::session::{Generation, Session, SessionId, SessionLimits};
use crate::user::UserId;

pub use self::legacy::{LegacyTokenKind, LegacyTokenSettings};
pub(crate) use self::legacy::{LegacyTokens, PresentedLegacyToken};

/// The `typ` of refresh tokens: what keeps them from passing for anything else.
pub const REFRESH_TOKEN_TYPE: &str = "refresh+jwt";

const HEADER: &str = r#"{"alg":"HS256","typ":"refresh+jwt"}"#;

/// Derives refresh tokens and reads presented ones.
#[derive(Clone)]
pub struct RefreshTokens {
    key: hmac::Key,
    previous: Vec<hmac::Key>,
    issuer: String,
}

/// A refresh token as it is sent. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(Zeroizing<String>);

impl RefreshToken {
    /// The compact form, for the cookie.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RefreshToken(redacted)")
    }
}

/// What a genuine refresh token says. Only [`RefreshTokens::read`] makes one: it is the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentedRefreshToken {
    session: SessionId,
    user: UserId,
    generation: Generation,
}

impl PresentedRefreshToken {
    /// The session it names.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The user it names.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The generation it names.
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

/// Why a presented refresh token was not even looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RefreshTokenError {
    /// Malformed, forged, or a token of another kind.
    #[error("invalid")]
    Invalid,
    /// Genuine, and past its `exp`.
    #[error("expired")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    iss: Cow<'a, str>,
    sub: String,
    sid: SessionId,
    #[serde(rename = "gen")]
    generation: Generation,
    iat: UnixSeconds,
    exp: UnixSeconds,
}

impl RefreshTokens {
    /// The codec for one issuer, with the keys derived from the root secrets for this purpose.
    pub fn new(roots: impl Into<RootSecrets>, issuer: impl Into<String>) -> Self {
        let roots = roots.into();
        let key = |root: &RootSecret| root.mac_key(Purpose::RefreshToken);
        Self {
            key: key(&roots.current),
            previous: roots.previous.iter().map(key).collect(),
            issuer: issuer.into(),
        }
    }

    /// The token of a session at its generation.
    pub fn derive(&self, session: &Session, limits: &SessionLimits) -> RefreshToken {
        let claims = Claims {
            iss: self.issuer.as_str().into(),
            sub: session.user_id.to_string(),
            sid: session.id,
            generation: session.generation,
            iat: unix_seconds(session.rotated_at),
            exp: unix_seconds(session.refresh_expires_at(limits)),
        };
        let payload = serde_json::to_vec(&claims).expect("strings and numbers serialise");
        let sign = |input: &[u8]| Ok::<_, std::convert::Infallible>(hmac::sign(&self.key, input));
        let Ok(token) = jws::sign_with(HEADER, &payload, sign);
        RefreshToken(Zeroizing::new(token))
    }

    /// Reads a presented token: signature and type first, then the claims, then `exp`.
    ///
    /// # Errors
    /// [`RefreshTokenError`]; nothing was looked up.
    pub fn read(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<PresentedRefreshToken, RefreshTokenError> {
        let claims = self
            .verified_claims(token)
            .ok_or(RefreshTokenError::Invalid)?;
        let user = claims
            .sub
            .parse()
            .map(UserId)
            .map_err(|_| RefreshTokenError::Invalid)?;
        if claims.exp <= unix_seconds(now) {
            return Err(RefreshTokenError::Expired);
        }
        Ok(PresentedRefreshToken {
            session: claims.sid,
            user,
            generation: claims.generation,
        })
    }

    fn verified_claims(&self, token: &str) -> Option<Claims<'static>> {
        let compact = jws::parse(token).ok()?;
        if compact.header.algorithm != "HS256" || !compact.header.has_type(REFRESH_TOKEN_TYPE) {
            return None;
        }
        let input = compact.signing_input.as_bytes();
        let mut keys = std::iter::once(&self.key).chain(&self.previous);
        if !keys.any(|key| hmac::verify(key, input, compact.signature.as_ref()).is_ok()) {
            return None;
        }
        let payload = compact.payload_bytes().ok()?;
        let claims: Claims<'static> = json::from_slice(&payload).ok()?;
        (claims.iss == self.issuer).then_some(claims)
    }
}

impl fmt::Debug for RefreshTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RefreshTokens")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

pub(crate) fn unix_seconds(instant: Timestamp) -> UnixSeconds {
    UnixSeconds::new(u64::try_from(instant.as_second()).unwrap_or_default())
}
