//! The claims of an access token: the one shape that signer and verifier share.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::UnixSeconds;
use crate::json::{self, OneOrMany, Text};

/// The `typ` of an access token ([RFC 9068, section 2.1]).
///
/// [RFC 9068, section 2.1]: https://www.rfc-editor.org/rfc/rfc9068#section-2.1
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The names that no custom claim may have: those of [`AccessClaims`] and `nbf`, which we never
/// write but always honour.
pub const RESERVED_CLAIMS: [&str; 10] = [
    "iss", "sub", "user_id", "aud", "iat", "exp", "jti", "sid", "csrf", "nbf",
];

/// What an access token says. All but `aud` and `extra` are always there.
///
/// Serialised in this order. Read strictly: a claim that is missing, repeated (at any depth, in any
/// spelling) or of the wrong type (`null` too) is an error; see [`UnixSeconds`] for times.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessClaims {
    /// Who issued the token.
    pub iss: String,
    /// The user's id as text.
    pub sub: String,
    /// The user's id as the number it is.
    pub user_id: i64,
    /// Whom the token is for. Empty when the claim is absent; one name is written as a string, more
    /// as an array, and both forms are read.
    pub aud: Vec<String>,
    /// When the token was issued.
    pub iat: UnixSeconds,
    /// From when on the token is refused.
    pub exp: UnixSeconds,
    /// The token's own id.
    pub jti: String,
    /// The session that the token belongs to.
    pub sid: String,
    /// base64url SHA-256 of the session's CSRF token; see [`csrf`](crate::csrf).
    pub csrf: String,
    /// User fields and custom claims; none may be called like a claim above.
    pub extra: Map<String, Value>,
}

impl Serialize for AccessClaims {
    /// # Errors
    ///
    /// If a name in `extra` is that of another claim, since the token would have it twice.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_own = |name: &str| name != "nbf" && RESERVED_CLAIMS.contains(&name);
        if let Some(name) = self.extra.keys().find(|name| is_own(name)) {
            return Err(S::Error::custom(format_args!(
                "`{name}` is no name for a custom claim"
            )));
        }

        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("iss", &self.iss)?;
        members.serialize_entry("sub", &self.sub)?;
        members.serialize_entry("user_id", &self.user_id)?;
        match self.aud.as_slice() {
            [] => {}
            [one] => members.serialize_entry("aud", one)?,
            many => members.serialize_entry("aud", many)?,
        }
        members.serialize_entry("iat", &self.iat)?;
        members.serialize_entry("exp", &self.exp)?;
        members.serialize_entry("jti", &self.jti)?;
        members.serialize_entry("sid", &self.sid)?;
        members.serialize_entry("csrf", &self.csrf)?;
        for (name, value) in &self.extra {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

impl<'de> Deserialize<'de> for AccessClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ClaimsSet::deserialize(deserializer).map(|set| set.claims)
    }
}

/// The claims, and the one that is not ours. `nbf` stands in `extra` as well.
pub(crate) struct ClaimsSet {
    pub(crate) claims: AccessClaims,
    pub(crate) not_before: Option<UnixSeconds>,
}

impl ClaimsSet {
    /// Reads a payload; `None` if it is not the JSON of these claims.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        // Checking all of the UTF-8 at once is a sixth faster than string by string.
        serde_json::from_str(std::str::from_utf8(json).ok()?).ok()
    }
}

impl<'de> Deserialize<'de> for ClaimsSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = ClaimsSet;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the claims of an access token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ClaimsSet, A::Error> {
        let (mut iss, mut sub, mut user_id, mut aud) = (None, None, None, None::<OneOrMany>);
        let (mut iat, mut exp, mut not_before) = (None, None, None::<UnixSeconds>);
        let (mut jti, mut sid, mut csrf) = (None, None, None);
        let mut extra = Map::new();

        while let Some(Text(name)) = members.next_key()? {
            match &*name {
                "iss" => json::fill(&mut iss, &mut members)?,
                "sub" => json::fill(&mut sub, &mut members)?,
                "user_id" => json::fill(&mut user_id, &mut members)?,
                "aud" => json::fill(&mut aud, &mut members)?,
                "iat" => json::fill(&mut iat, &mut members)?,
                "exp" => json::fill(&mut exp, &mut members)?,
                "nbf" => json::fill(&mut not_before, &mut members)?,
                "jti" => json::fill(&mut jti, &mut members)?,
                "sid" => json::fill(&mut sid, &mut members)?,
                "csrf" => json::fill(&mut csrf, &mut members)?,
                _ => json::insert_distinct(&mut extra, name.into_owned(), &mut members)?,
            }
        }

        if let Some(time) = not_before {
            extra.insert("nbf".to_owned(), time.get().into());
        }
        let claims = AccessClaims {
            iss: json::required(iss, "iss")?,
            sub: json::required(sub, "sub")?,
            user_id: json::required(user_id, "user_id")?,
            aud: aud.map_or_else(Vec::new, |OneOrMany(names)| names),
            iat: json::required(iat, "iat")?,
            exp: json::required(exp, "exp")?,
            jti: json::required(jti, "jti")?,
            sid: json::required(sid, "sid")?,
            csrf: json::required(csrf, "csrf")?,
            extra,
        };
        Ok(ClaimsSet { claims, not_before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims() -> AccessClaims {
        AccessClaims {
            iss: "https://auth.test".into(),
            sub: "7".into(),
            user_id: 7,
            aud: Vec::new(),
            iat: UnixSeconds::new(1_800_000_000),
            exp: UnixSeconds::new(1_800_000_300),
            jti: "j".into(),
            sid: "s".into(),
            csrf: "c".into(),
            extra: Map::new(),
        }
    }

    fn written(claims: &AccessClaims) -> String {
        serde_json::to_string(claims).unwrap()
    }

    fn read(json: &str) -> serde_json::Result<AccessClaims> {
        serde_json::from_str(json)
    }

    /// The claims as JSON, with one member set to `value`.
    fn with(name: &str, value: Value) -> String {
        let mut object = serde_json::to_value(claims()).unwrap();
        object[name] = value;
        object.to_string()
    }

    #[test]
    fn claims_are_written_in_the_documented_order() {
        assert_eq!(
            written(&AccessClaims {
                aud: vec!["https://api.test".into()],
                extra: Map::from_iter([("username".into(), "ana".into())]),
                ..claims()
            }),
            r#"{"iss":"https://auth.test","sub":"7","user_id":7,"aud":"https://api.test","#
                .to_owned()
                + r#""iat":1800000000,"exp":1800000300,"jti":"j","sid":"s","csrf":"c","#
                + r#""username":"ana"}"#
        );
    }

    #[test]
    fn an_audience_is_absent_or_a_string_or_an_array() {
        assert!(!written(&claims()).contains("aud"));
        let two = AccessClaims {
            aud: vec!["a".into(), "b".into()],
            ..claims()
        };
        assert!(written(&two).contains(r#""aud":["a","b"]"#));

        assert!(read(&written(&claims())).unwrap().aud.is_empty());
        assert_eq!(read(&with("aud", json!("a"))).unwrap().aud, ["a"]);
        assert_eq!(read(&with("aud", json!(["a"]))).unwrap().aud, ["a"]);
        assert_eq!(read(&written(&two)).unwrap().aud, ["a", "b"]);
        for wrong in [
            json!(null),
            json!([]),
            json!([1]),
            json!(["a", null]),
            json!({"a": 1}),
        ] {
            assert!(read(&with("aud", wrong.clone())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let claims = AccessClaims {
            user_id: i64::MIN,
            extra: Map::from_iter([("roles".into(), json!({"a": [1, 0.5, null]}))]),
            ..claims()
        };
        assert_eq!(read(&written(&claims)).unwrap(), claims);
    }

    #[test]
    fn a_missing_claim_is_refused() {
        for name in ["iss", "sub", "user_id", "iat", "exp", "jti", "sid", "csrf"] {
            let mut object = serde_json::to_value(claims()).unwrap();
            object.as_object_mut().unwrap().remove(name);
            assert!(read(&object.to_string()).is_err(), "{name} was missing");
        }
    }

    #[test]
    fn a_wrong_type_is_refused_and_never_read_as_absent() {
        let values = [
            json!(null),
            json!(true),
            json!(1.5),
            json!([]),
            json!({}),
            json!("1"),
            json!(1),
        ];
        for name in ["iss", "sub", "jti", "sid", "csrf"] {
            for value in values.iter().filter(|value| !value.is_string()) {
                assert!(read(&with(name, value.clone())).is_err(), "{name}: {value}");
            }
        }
        for name in ["user_id", "iat", "exp", "nbf"] {
            for value in values.iter().filter(|value| !value.is_u64()) {
                assert!(read(&with(name, value.clone())).is_err(), "{name}: {value}");
            }
        }
    }

    #[test]
    fn a_payload_that_is_no_object_is_refused() {
        for text in ["null", "[]", "\"\"", "0", "true", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_repeated_name_is_refused_at_any_depth_and_in_any_spelling() {
        let json = written(&claims());
        for member in [
            r#""sub":"7""#,
            r#""s\u0075b":"8""#,
            r#""exp":1900000000"#,
            r#""nbf":1,"nbf":1"#,
            r#""role":"a","role":"b""#,
            r#""role":{"a":1,"\u0061":2}"#,
            r#""role":[{"a":1,"a":2}]"#,
        ] {
            let twice = json.replace('}', &format!(",{member}}}"));
            assert!(read(&twice).is_err(), "{member}");
        }
        assert!(read(&json.replace('}', r#","role":{"role":{}}}"#)).is_ok());
    }

    #[test]
    fn a_custom_claim_cannot_take_the_name_of_another() {
        for name in RESERVED_CLAIMS.iter().filter(|name| **name != "nbf") {
            let extra = Map::from_iter([((*name).to_owned(), json!(1))]);
            assert!(
                serde_json::to_string(&AccessClaims { extra, ..claims() }).is_err(),
                "{name}"
            );
        }
    }
}
