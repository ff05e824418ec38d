//! The revocation feed: what ended before its time, in the one shape that issuer and verifier share.
//!
//! An issuer publishes a [`RevocationList`] at `/.well-known/revocations`. It names what ended within
//! the lifetime of an access token, so it is complete and yet small: what ended earlier has no token
//! left that could be alive.
//!
//! ```
//! use countersign_token::revocation::RevokedSession;
//! use countersign_token::{RevocationList, UnixSeconds};
//!
//! let list = RevocationList {
//!     sessions: vec![RevokedSession {
//!         sid: "0198b3f2-6a3e-7d5c-9d0e-000000000001".into(),
//!         until: UnixSeconds::new(1_795_514_820),
//!     }],
//!     ..RevocationList::empty(UnixSeconds::new(1_795_514_400))
//! };
//! let json = serde_json::to_string(&list)?;
//! assert_eq!(
//!     json,
//!     concat!(
//!         r#"{"issued_at":"2026-11-24T10:00:00Z","sessions":[{"#,
//!         r#""sid":"0198b3f2-6a3e-7d5c-9d0e-000000000001","until":"2026-11-24T10:07:00Z"}],"#,
//!         r#""users":[],"keys":[]}"#,
//!     )
//! );
//! assert_eq!(RevocationList::parse(json.as_bytes())?, list);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::UnixSeconds;
use crate::json::{self, JsonError, Object};
use crate::time::rfc3339;

/// Larger lists are refused before they are read. An entry takes about 80 bytes, so this is room for
/// 800,000 of them: what ends within minutes when an issuer of many millions of users signs out a good
/// part of them at once.
pub const MAX_FEED_BYTES: usize = 64 * 1024 * 1024;

/// Why a list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationListError {
    /// Longer than [`MAX_FEED_BYTES`].
    #[error("The revocation list is longer than {MAX_FEED_BYTES} bytes.")]
    TooLong,
    /// Not strict JSON, or not of the form of a revocation list.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// What ended before its time, all that is of any consequence now.
///
/// Serialised in this order, times as `2026-11-24T10:00:00Z`. Read by [`parse`](Self::parse) only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevocationList {
    /// When the list was made.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub issued_at: UnixSeconds,
    /// The sessions that ended.
    pub sessions: Vec<RevokedSession>,
    /// The users whose earlier tokens ended.
    pub users: Vec<RevokedUser>,
    /// The signing keys that are no longer to be believed.
    pub keys: Vec<RevokedKey>,
}

/// A session that ended: every token with this `sid` is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedSession {
    /// The session, as in the claim `sid`.
    pub sid: String,
    /// When the last of its tokens has expired, and the entry may be forgotten.
    #[serde(with = "rfc3339")]
    pub until: UnixSeconds,
}

/// A user who was deactivated, deleted or signed out everywhere: every token of this `sub` with an
/// `iat` earlier than `not_before` is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedUser {
    /// The user, as in the claim `sub`.
    pub sub: String,
    /// Tokens issued from this time on are none of those that ended.
    #[serde(with = "rfc3339")]
    pub not_before: UnixSeconds,
    /// When the last of the earlier tokens has expired, and the entry may be forgotten.
    #[serde(with = "rfc3339")]
    pub until: UnixSeconds,
}

/// A signing key that was revoked: every token that it signed is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedKey {
    /// The key, as in the header's `kid`.
    pub kid: String,
    /// When nobody has the key in a cache any more, and the entry may be forgotten.
    #[serde(with = "rfc3339")]
    pub until: UnixSeconds,
}

impl RevocationList {
    /// The list in which nothing ended.
    #[must_use]
    pub const fn empty(issued_at: UnixSeconds) -> Self {
        Self {
            issued_at,
            sessions: Vec::new(),
            users: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Reads a list that an issuer published. `keys` may be absent, members that are not ours are
    /// ignored, fractions of seconds are rounded up, so that nothing is forgotten too early.
    ///
    /// # Errors
    ///
    /// [`RevocationListError`] for a list that is too long, not strict JSON, or of another form: it
    /// is refused whole, since half a list would say that the other half had not ended.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevocationListError> {
        #[derive(Deserialize)]
        struct Published {
            #[serde(with = "rfc3339")]
            issued_at: UnixSeconds,
            #[serde(deserialize_with = "json::objects")]
            sessions: Vec<RevokedSession>,
            #[serde(deserialize_with = "json::objects")]
            users: Vec<RevokedUser>,
            #[serde(default, deserialize_with = "json::objects")]
            keys: Vec<RevokedKey>,
        }

        if bytes.len() > MAX_FEED_BYTES {
            return Err(RevocationListError::TooLong);
        }
        let Object(published) = json::from_slice::<Object<Published>>(bytes)?;
        Ok(Self {
            issued_at: published.issued_at,
            sessions: published.sessions,
            users: published.users,
            keys: published.keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TIME: &str = "2026-11-24T10:00:00Z";

    fn list() -> Value {
        json!({
            "issued_at": TIME,
            "sessions": [{"sid": "s", "until": "2026-11-24T10:07:00Z"}],
            "users": [{"sub": "7", "not_before": "2026-11-24T10:00:01Z", "until": TIME}],
            "keys": [{"kid": "k", "until": TIME}],
        })
    }

    fn parse(list: &Value) -> Result<RevocationList, RevocationListError> {
        RevocationList::parse(list.to_string().as_bytes())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = parse(&list()).unwrap();
        assert_eq!(read.issued_at.get(), 1_795_514_400);
        assert_eq!(read.sessions[0].until.get(), 1_795_514_820);
        assert_eq!(read.users[0].not_before.get(), 1_795_514_401);
        assert_eq!(read.keys[0].kid, "k");
        assert_eq!(serde_json::to_value(&read).unwrap(), list());
    }

    #[test]
    fn keys_may_be_absent_and_strange_members_are_ignored() {
        let mut other = list();
        other.as_object_mut().unwrap().remove("keys");
        other["devices"] = json!([{"id": 1}]);
        other["sessions"][0]["reason"] = json!("logout");
        let read = parse(&other).unwrap();
        assert!(read.keys.is_empty());
        assert_eq!(read.sessions.len(), 1);
    }

    #[test]
    fn a_fraction_makes_an_entry_last_longer_and_reach_further() {
        let mut exact = list();
        exact["users"][0]["not_before"] = json!("2026-11-24T10:00:01.25Z");
        exact["users"][0]["until"] = json!("2026-11-24T10:00:00.000001Z");
        let user = parse(&exact).unwrap().users.remove(0);
        assert_eq!(user.not_before.get(), 1_795_514_402);
        assert_eq!(user.until.get(), 1_795_514_401);
    }

    #[test]
    fn what_has_another_form_is_refused_whole() {
        let entry = json!({"sid": "s", "until": TIME});
        for (member, value) in [
            ("issued_at", json!(1_795_514_400)),
            ("issued_at", json!("2026-11-24")),
            ("sessions", json!(null)),
            ("sessions", json!({})),
            ("sessions", json!(["s"])),
            ("sessions", json!([entry, ["s", TIME]])),
            ("sessions", json!([entry, {"sid": 1, "until": TIME}])),
            ("sessions", json!([entry, {"sid": "s"}])),
            ("sessions", json!([entry, {"sid": "s", "until": null}])),
            ("sessions", json!([entry, {"until": TIME}])),
            ("users", json!([{"sub": "7", "until": TIME}])),
            (
                "users",
                json!([{"sub": 7, "not_before": TIME, "until": TIME}]),
            ),
            ("keys", json!(null)),
            ("keys", json!([{"kid": null, "until": TIME}])),
        ] {
            let mut wrong = list();
            wrong[member] = value;
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
        for member in ["issued_at", "sessions", "users"] {
            let mut wrong = list();
            wrong.as_object_mut().unwrap().remove(member);
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
        for text in ["", "null", "[]", "{}", &format!(r#"["{TIME}",[],[],[]]"#)] {
            assert!(RevocationList::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_repeated_member_is_refused_at_any_depth() {
        let text = list().to_string();
        for (member, twice) in [
            (r#""sid":"s""#, r#""sid":"other","sid":"s""#),
            (r#""sid":"s""#, r#""s\u0069d":"other","sid":"s""#),
            (r#""sid":"s""#, r#""sid":"s","x":1,"x":2"#),
            (r#""keys""#, r#""sessions":[],"keys""#),
            (r#""keys""#, r#""keys":[],"keys""#),
        ] {
            let repeated = text.replace(member, twice);
            assert_ne!(repeated, text);
            assert!(
                matches!(
                    RevocationList::parse(repeated.as_bytes()),
                    Err(RevocationListError::Json(JsonError::DuplicateMember { .. }))
                ),
                "{repeated}"
            );
        }
    }

    #[test]
    fn a_list_beyond_the_limit_is_refused_unread() {
        let padded = format!("{}{}", list(), " ".repeat(MAX_FEED_BYTES));
        assert_eq!(
            RevocationList::parse(padded.as_bytes()),
            Err(RevocationListError::TooLong)
        );
    }
}
