//! Refresh tokens that a Django site issued before Countersign took over: read, and given the name of the
//! session that each is exchanged for.
//!
//! The name is derived from the token, so that a token can open one session and no second one, with
//! nothing stored but that session. The token counts as the generation before the session's first reply:
//! whoever shows it again is judged by [`rotation::decide`](crate::rotation::decide), like whoever shows any
//! superseded refresh token.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_token::{UnixSeconds, json, jws};
use jiff::Timestamp;
use serde::Deserialize;

use super::{PresentedRefreshToken, RefreshTokenError, unix_seconds};
use crate::keys::SharedSecret;
use crate::session::{Generation, SessionId, saturating_add};
use crate::user::UserId;

/// The shortest life of a token of the recipe that is taken for a refresh token. The recipe's access
/// token has the same claims under what may be the same key: only its life of minutes tells it apart.
const LEAST_RECIPE_LIFE: Duration = Duration::from_hours(1);

/// Longer names than simplejwt's own column holds are none of its tokens'.
const MOST_TOKEN_ID_BYTES: usize = 255;

/// Whose form legacy tokens have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyTokenKind {
    /// The hand-written recipe's: `user_id`, `iat`, `exp`.
    Recipe,
    /// simplejwt's: also `token_type` and `jti`, by which the site may have revoked it.
    SimpleJwt,
}

/// Which refresh tokens of a Django site are exchanged for sessions.
#[derive(Debug, Clone)]
pub struct LegacyTokenSettings {
    /// Whose form they have.
    pub kind: LegacyTokenKind,
    /// The key that the site signs them with (HS256).
    pub key: SharedSecret,
    /// From when on none is accepted.
    pub until: Timestamp,
}

/// Reads legacy tokens.
pub(crate) struct LegacyTokens {
    kind: LegacyTokenKind,
    key: hmac::Key,
    /// Names sessions. It hangs from the site's key and not from the root secret: a token keeps its name,
    /// and so stays used, when the root secret is replaced.
    naming: hmac::Key,
    until: Timestamp,
    longest: Duration,
}

/// What a genuine legacy token says. Only [`LegacyTokens::read`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PresentedLegacyToken {
    presented: PresentedRefreshToken,
    issued_at: Timestamp,
    token_id: Option<String>,
}

impl PresentedLegacyToken {
    /// The token as what it counts as once its session is open: that session's generation before.
    pub(crate) fn as_refresh_token(&self) -> PresentedRefreshToken {
        self.presented
    }

    /// The session that it is exchanged for.
    pub(crate) fn session(&self) -> SessionId {
        self.presented.session
    }

    /// Whose it is.
    pub(crate) fn user(&self) -> UserId {
        self.presented.user
    }

    /// What the session opens with, for the token is the one before.
    pub(crate) fn next_generation(&self) -> Generation {
        self.presented.generation.next()
    }

    /// When the site issued it: when its user signed in, or last refreshed there.
    pub(crate) fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// The name by which the site may have revoked it.
    pub(crate) fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }
}

#[derive(Deserialize)]
struct Claims {
    user_id: UserNumber,
    iat: UnixSeconds,
    exp: UnixSeconds,
    token_type: Option<String>,
    jti: Option<String>,
}

/// A user's number as the site writes it: later versions of simplejwt write texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum UserNumber {
    Number(i64),
    Text(String),
}

impl UserNumber {
    fn read(&self) -> Option<UserId> {
        match self {
            Self::Number(number) => Some(UserId(*number)),
            Self::Text(text) => {
                let number: i64 = text.parse().ok()?;
                (number.to_string() == *text).then_some(UserId(number))
            }
        }
    }
}

impl LegacyTokens {
    /// A reader of tokens that count for `longest` at most, whatever they say: for no longer than the
    /// session that a token opened is remembered, or the token would be as new when it is forgotten.
    pub(crate) fn new(settings: &LegacyTokenSettings, longest: Duration) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, settings.key.as_bytes());
        let naming = hmac::sign(&key, b"countersign/v1/legacy-session");
        Self {
            kind: settings.kind,
            naming: hmac::Key::new(hmac::HMAC_SHA256, naming.as_ref()),
            key,
            until: settings.until,
            longest,
        }
    }

    /// Whether the time of legacy tokens is over.
    pub(crate) fn are_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// Reads a presented token: signature and type first, then the claims, then its life.
    pub(crate) fn read(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<PresentedLegacyToken, RefreshTokenError> {
        if self.are_over(now) {
            return Err(RefreshTokenError::Invalid);
        }
        let read = self.read_at_any_time(token);
        let (presented, expires_at) = read.ok_or(RefreshTokenError::Invalid)?;
        if presented.issued_at > now {
            return Err(RefreshTokenError::Invalid);
        }
        let forgotten_at = saturating_add(presented.issued_at, self.longest);
        if unix_seconds(now) >= expires_at || now >= forgotten_at {
            return Err(RefreshTokenError::Expired);
        }
        Ok(presented)
    }

    fn read_at_any_time(&self, token: &str) -> Option<(PresentedLegacyToken, UnixSeconds)> {
        let claims = self.verified_claims(token)?;
        let life = claims.exp.get().checked_sub(claims.iat.get())?;
        let token_id = match self.kind {
            LegacyTokenKind::Recipe => {
                let is_refresh = life >= LEAST_RECIPE_LIFE.as_secs() && claims.token_type.is_none();
                is_refresh.then_some(None)?
            }
            LegacyTokenKind::SimpleJwt => {
                let token_id = claims.jti.filter(|id| id.len() <= MOST_TOKEN_ID_BYTES)?;
                let is_refresh = claims.token_type.as_deref() == Some("refresh");
                is_refresh.then_some(Some(token_id))?
            }
        };
        let issued_at = i64::try_from(claims.iat.get()).ok()?;
        let issued_at = Timestamp::from_second(issued_at).ok()?;
        let presented = PresentedRefreshToken {
            session: self.session_of(token, issued_at),
            user: claims.user_id.read()?,
            generation: Generation::FIRST,
        };
        let presented = PresentedLegacyToken {
            presented,
            issued_at,
            token_id,
        };
        Some((presented, claims.exp))
    }

    fn verified_claims(&self, token: &str) -> Option<Claims> {
        let compact = jws::parse(token).ok()?;
        let header = &compact.header;
        // Ours name their key and another type, and may be signed with the same secret.
        let is_plain = header.kid.is_none() && (header.typ.is_none() || header.has_type("JWT"));
        if header.algorithm != "HS256" || !is_plain {
            return None;
        }
        let input = compact.signing_input.as_bytes();
        hmac::verify(&self.key, input, compact.signature.as_ref()).ok()?;
        let payload = compact.payload_bytes().ok()?;
        json::from_slice(&payload).ok()
    }

    /// The session of a token: one token has one spelling, so it has one name.
    fn session_of(&self, token: &str, issued_at: Timestamp) -> SessionId {
        let digest = hmac::sign(&self.naming, token.as_bytes());
        let mut bits = [0; 10];
        bits.copy_from_slice(&digest.as_ref()[..10]);
        SessionId::from_parts(issued_at, &bits)
    }
}

impl fmt::Debug for LegacyTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LegacyTokens")
            .field("kind", &self.kind)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::convert::Infallible;

    use serde_json::{Value, json};

    const SECRET: &str = "k7#q2v!w9x@e4r%t6y^u8i&o0p*a1s(d3f)g5h_j-l=z+c$bn";
    const NOW: i64 = 1_795_341_600;
    const DAY: i64 = 24 * 3_600;

    fn legacy(kind: LegacyTokenKind) -> LegacyTokens {
        let settings = LegacyTokenSettings {
            kind,
            key: SharedSecret::parse(SECRET).unwrap(),
            until: Timestamp::from_second(NOW + 30 * DAY).unwrap(),
        };
        LegacyTokens::new(&settings, Duration::from_hours(30 * 24))
    }

    fn signed(header: &str, claims: &Value) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let sign = |input: &[u8]| Ok::<_, Infallible>(hmac::sign(&key, input));
        let Ok(token) = jws::sign_with(header, claims.to_string().as_bytes(), sign);
        token
    }

    /// As PyJWT writes it.
    fn by_the_site(claims: &Value) -> String {
        signed(r#"{"alg":"HS256","typ":"JWT"}"#, claims)
    }

    fn recipe(change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({"user_id": 7, "exp": NOW + 6 * DAY, "iat": NOW - DAY});
        change(&mut claims);
        by_the_site(&claims)
    }

    fn simplejwt(change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({"token_type": "refresh", "exp": NOW + DAY, "iat": NOW - 10,
            "jti": "8c5b2a", "user_id": "7"});
        change(&mut claims);
        by_the_site(&claims)
    }

    fn read_at(
        tokens: &LegacyTokens,
        token: &str,
        second: i64,
    ) -> Result<PresentedLegacyToken, RefreshTokenError> {
        tokens.read(token, Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_token_of_the_recipe_names_its_user_and_always_the_same_session() {
        let tokens = legacy(LegacyTokenKind::Recipe);
        let token = recipe(|_| {});
        let read = read_at(&tokens, &token, NOW).unwrap();
        assert_eq!((read.user(), read.token_id()), (UserId(7), None));
        assert_eq!(read.issued_at().as_second(), NOW - DAY);
        assert_eq!(read_at(&tokens, &token, NOW + 1).unwrap(), read);
        let other = recipe(|claims| claims["iat"] = (NOW - DAY + 1).into());
        let other = read_at(&tokens, &other, NOW).unwrap();
        assert_ne!(other.session(), read.session());
        assert!(read.session() < other.session(), "in the order of issue");
    }

    #[test]
    fn a_token_of_simplejwt_has_a_name_of_its_own() {
        let tokens = legacy(LegacyTokenKind::SimpleJwt);
        for user_id in [json!(7), json!("7")] {
            let token = simplejwt(|claims| claims["user_id"] = user_id);
            let read = read_at(&tokens, &token, NOW).unwrap();
            assert_eq!((read.user(), read.token_id()), (UserId(7), Some("8c5b2a")));
        }
    }

    #[test]
    fn what_is_no_refresh_token_of_the_site_is_refused() {
        let claims = json!({"user_id": 7, "exp": NOW + 6 * DAY, "iat": NOW - DAY});
        let flipped = recipe(|_| {}).replace('.', ".A");
        let refused = [
            (
                "the recipe's access token",
                recipe(|c| c["exp"] = (NOW - DAY + 300).into()),
            ),
            (
                "an access token of 59 minutes",
                recipe(|c| c["exp"] = (NOW - DAY + 3_599).into()),
            ),
            (
                "a token that ends before it begins",
                recipe(|c| c["exp"] = (NOW - 2 * DAY).into()),
            ),
            (
                "one from the future",
                recipe(|c| c["iat"] = (NOW + 1).into()),
            ),
            (
                "one without a beginning",
                recipe(|c| c["iat"] = Value::Null),
            ),
            ("a broken time", recipe(|c| c["exp"] = json!(1.5e9))),
            ("nobody's", recipe(|c| c["user_id"] = Value::Null)),
            (
                "a number with a sign",
                recipe(|c| c["user_id"] = "+7".into()),
            ),
            ("simplejwt's", simplejwt(|_| {})),
            (
                "our access token",
                signed(r#"{"alg":"HS256","kid":"k","typ":"at+jwt"}"#, &claims),
            ),
            (
                "our refresh token",
                signed(r#"{"alg":"HS256","typ":"refresh+jwt"}"#, &claims),
            ),
            (
                "one with a key's name",
                signed(r#"{"alg":"HS256","kid":"k","typ":"JWT"}"#, &claims),
            ),
            (
                "one of another algorithm",
                signed(r#"{"alg":"none","typ":"JWT"}"#, &claims),
            ),
            ("an altered one", flipped),
            ("nothing", String::new()),
        ];
        for (what, token) in refused {
            let read = read_at(&legacy(LegacyTokenKind::Recipe), &token, NOW);
            assert_eq!(read, Err(RefreshTokenError::Invalid), "{what}");
        }
        let refused = [
            (
                "an access token",
                simplejwt(|c| c["token_type"] = "access".into()),
            ),
            ("a nameless one", simplejwt(|c| c["jti"] = Value::Null)),
            (
                "one of a long name",
                simplejwt(|c| c["jti"] = "j".repeat(256).into()),
            ),
            ("the recipe's", recipe(|_| {})),
        ];
        for (what, token) in refused {
            let read = read_at(&legacy(LegacyTokenKind::SimpleJwt), &token, NOW);
            assert_eq!(read, Err(RefreshTokenError::Invalid), "{what}");
        }
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let mut tokens = legacy(LegacyTokenKind::Recipe);
        tokens.key = hmac::Key::new(hmac::HMAC_SHA256, b"another key");
        let read = read_at(&tokens, &recipe(|_| {}), NOW);
        assert_eq!(read, Err(RefreshTokenError::Invalid));
    }

    #[test]
    fn a_token_counts_until_it_expires_and_no_longer_than_its_session_is_remembered() {
        let mut tokens = legacy(LegacyTokenKind::Recipe);
        let token = recipe(|_| {});
        let expired = Err(RefreshTokenError::Expired);
        assert!(read_at(&tokens, &token, NOW + 6 * DAY - 1).is_ok());
        assert_eq!(read_at(&tokens, &token, NOW + 6 * DAY), expired);
        tokens.longest = Duration::from_hours(3 * 24);
        assert!(read_at(&tokens, &token, NOW + 2 * DAY - 1).is_ok());
        assert_eq!(read_at(&tokens, &token, NOW + 2 * DAY), expired);
    }

    #[test]
    fn after_the_end_date_none_is_accepted() {
        let tokens = legacy(LegacyTokenKind::Recipe);
        let token = recipe(|claims| claims["exp"] = (NOW + 40 * DAY).into());
        assert!(read_at(&tokens, &token, NOW + 29 * DAY - 1).is_ok());
        let read = read_at(&tokens, &token, NOW + 30 * DAY);
        assert_eq!(read, Err(RefreshTokenError::Invalid));
    }
}
