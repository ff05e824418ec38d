//! The compact serialisation of a signed token ([RFC 7515, section 7.1]): taking one apart and
//! putting one together. No key is chosen and no signature is checked here.
//!
//! Only `header.payload.signature` is known. The JSON serialisation, encrypted tokens (five parts),
//! detached and unencoded payloads are malformed here.
//!
//! [RFC 7515, section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::base64url;
use crate::json::{self, Distinct, Names, Text};

/// Longer tokens are refused before they are read. Ours have about 500 bytes; servers and proxies
/// limit a header line to 8 KiB, so a longer one would not have come by an honest way.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The longest signature of our algorithms, in bytes: r and s of P-256, or R and S of Ed25519.
const SHORT_SIGNATURE_BYTES: usize = 64;

/// Why a text is no compact JWS that we would look at further. For the log; see
/// [`VerifyError`](crate::VerifyError) for what people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Not three parts with a dot between them.
    #[error("not three parts with dots between")]
    Parts,
    /// A part is not canonical base64url without padding.
    #[error("a part is not canonical base64url without padding")]
    Base64,
    /// The header is not a JSON object with a text `alg` and, at most, texts `kid` and `typ`, each
    /// name once.
    #[error("the header is not a JSON object of the expected form")]
    Header,
    /// The header has `crit` or `b64`: it demands an extension, and we have none
    /// ([RFC 7515, section 4.1.11](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11)).
    #[error("the header demands an extension")]
    Extension,
}

impl Malformed {
    /// The stable word for logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "length",
            Self::Parts => "parts",
            Self::Base64 => "base64",
            Self::Header => "header",
            Self::Extension => "crit",
        }
    }
}

/// The members of a header that we act on, not yet compared with anything.
///
/// `jku`, `jwk`, `x5u`, `x5c` and all else is skipped as data: a header never selects where a key
/// comes from ([RFC 8725, section 3.10](https://www.rfc-editor.org/rfc/rfc8725#section-3.10)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name of the algorithm, as written in `alg`.
    pub algorithm: Cow<'a, str>,
    /// The name of the key.
    pub kid: Option<Cow<'a, str>>,
    /// The type of the token.
    pub typ: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    /// Reads a header's JSON; allocates only where a member is written with escapes.
    ///
    /// # Errors
    ///
    /// [`Malformed::Header`] if it is not JSON, is nested too deeply, repeats a name at any depth,
    /// has no `alg`, or a member of the wrong type; [`Malformed::Extension`] for `crit` and `b64`.
    pub fn from_json(json: &'a [u8]) -> Result<Self, Malformed> {
        match serde_json::from_slice(json) {
            Ok(HeaderOrExtension::Header(header)) => Ok(header),
            Ok(HeaderOrExtension::Extension) => Err(Malformed::Extension),
            Err(_) => Err(Malformed::Header),
        }
    }

    /// Whether `typ` is `expected`, without regard to case and with or without `application/`
    /// ([RFC 7515, section 4.1.9](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.9)).
    #[must_use]
    pub fn has_type(&self, expected: &str) -> bool {
        const PREFIX: &str = "application/";
        let Some(typ) = self.typ.as_deref() else {
            return false;
        };
        let bare = match typ.split_at_checked(PREFIX.len()) {
            Some((prefix, bare)) if prefix.eq_ignore_ascii_case(PREFIX) => bare,
            _ => typ,
        };
        bare.eq_ignore_ascii_case(expected)
    }

    fn into_owned(self) -> Header<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Header {
            algorithm: own(self.algorithm),
            kid: self.kid.map(own),
            typ: self.typ.map(own),
        }
    }
}

/// What a header's JSON turned out to be: usable, or well-formed with a demand we cannot meet.
enum HeaderOrExtension<'a> {
    Header(Header<'a>),
    Extension,
}

impl<'de> Deserialize<'de> for HeaderOrExtension<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = HeaderOrExtension<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JOSE header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut alg: Option<Text<'de>> = None;
        let mut kid: Option<Text<'de>> = None;
        let mut typ: Option<Text<'de>> = None;
        let mut others = Names::default();
        let mut extension = false;

        while let Some(Text(name)) = members.next_key()? {
            match &*name {
                "alg" => json::fill(&mut alg, &mut members)?,
                "kid" => json::fill(&mut kid, &mut members)?,
                "typ" => json::fill(&mut typ, &mut members)?,
                _ => {
                    extension |= matches!(&*name, "crit" | "b64");
                    others.add(name)?;
                    members.next_value::<Distinct>()?;
                }
            }
        }

        if extension {
            return Ok(HeaderOrExtension::Extension);
        }
        Ok(HeaderOrExtension::Header(Header {
            algorithm: json::required(alg, "alg")?.0,
            kid: kid.map(|text| text.0),
            typ: typ.map(|text| text.0),
        }))
    }
}

/// The bytes of a signature; without allocation for those of our algorithms.
#[derive(Clone)]
pub struct SignatureBytes(SignatureStorage);

#[derive(Clone)]
enum SignatureStorage {
    Short {
        bytes: [u8; SHORT_SIGNATURE_BYTES],
        length: usize,
    },
    /// Of a foreign algorithm, such as RS256: well-formed, and sure to be refused.
    Long(Vec<u8>),
}

impl SignatureBytes {
    fn decode(segment: &str) -> Result<Self, Malformed> {
        if segment.len() > base64url::encoded_len(SHORT_SIGNATURE_BYTES) {
            let bytes = base64url::decode(segment).map_err(|_| Malformed::Base64)?;
            return Ok(Self(SignatureStorage::Long(bytes)));
        }
        let mut bytes = [0; SHORT_SIGNATURE_BYTES];
        let length = base64url::decode_into(segment, &mut bytes)
            .map_err(|_| Malformed::Base64)?
            .len();
        Ok(Self(SignatureStorage::Short { bytes, length }))
    }
}

impl AsRef<[u8]> for SignatureBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            SignatureStorage::Short { bytes, length } => &bytes[..*length],
            SignatureStorage::Long(bytes) => bytes,
        }
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SignatureBytes({} bytes)", self.as_ref().len())
    }
}

/// The three parts of a token, still encoded.
#[derive(Clone, Copy)]
pub(crate) struct Segments<'a> {
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: &'a str,
    pub(crate) signing_input: &'a str,
}

impl<'a> Segments<'a> {
    /// Takes `token` apart, which must not be longer than [`MAX_TOKEN_BYTES`].
    pub(crate) fn split(token: &'a str) -> Result<Self, Malformed> {
        let header_end = token.find('.').ok_or(Malformed::Parts)?;
        Self::split_after_header(token, header_end)
    }

    /// As [`split`](Self::split), where the end of the header (the first dot) is known.
    pub(crate) fn split_after_header(token: &'a str, header_end: usize) -> Result<Self, Malformed> {
        let (header, rest) = token.split_at_checked(header_end).ok_or(Malformed::Parts)?;
        let rest = rest.strip_prefix('.').ok_or(Malformed::Parts)?;
        let (payload, signature) = rest.split_once('.').ok_or(Malformed::Parts)?;
        if signature.contains('.') {
            return Err(Malformed::Parts);
        }
        let signing_input = &token[..header.len() + 1 + payload.len()];
        Ok(Self {
            header,
            payload,
            signature,
            signing_input,
        })
    }

    pub(crate) fn signature_bytes(&self) -> Result<SignatureBytes, Malformed> {
        SignatureBytes::decode(self.signature)
    }
}

/// A compact JWS, taken apart. Nothing in it has been verified.
#[derive(Debug, Clone)]
pub struct Compact<'a> {
    /// What the header says.
    pub header: Header<'a>,
    /// The text that is signed: header and payload as received, with the dot between.
    pub signing_input: &'a str,
    /// The payload, still base64url; see [`payload_bytes`](Self::payload_bytes).
    pub payload: &'a str,
    /// The signature, not yet checked.
    pub signature: SignatureBytes,
}

impl Compact<'_> {
    /// Decodes the payload. Check the signature first.
    ///
    /// # Errors
    ///
    /// [`Malformed::Base64`] if it is not canonical base64url.
    pub fn payload_bytes(&self) -> Result<Vec<u8>, Malformed> {
        base64url::decode(self.payload).map_err(|_| Malformed::Base64)
    }
}

/// Takes a compact JWS apart. The payload is left as it is.
///
/// # Errors
///
/// [`Malformed`], as its variants say. The length is looked at first, and the header's JSON last.
pub fn parse(token: &str) -> Result<Compact<'_>, Malformed> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Malformed::TooLong);
    }
    let segments = Segments::split(token)?;
    let signature = segments.signature_bytes()?;
    let header = base64url::with_decoded(segments.header, |json| {
        Header::from_json(json).map(Header::into_owned)
    })
    .map_err(|_| Malformed::Base64)??;
    Ok(Compact {
        header,
        signing_input: segments.signing_input,
        payload: segments.payload,
        signature,
    })
}

/// The header that our tokens have, as JSON: `{"alg":…,"kid":…,"typ":…}`.
///
/// [`Verifier`](crate::Verifier) knows a header written by this function at sight.
#[must_use]
pub fn header_json(algorithm: &str, kid: &str, typ: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"{{"alg":{},"kid":{},"typ":{}}}"#,
        quoted(algorithm),
        quoted(kid),
        quoted(typ)
    )
}

/// Makes a compact JWS: `sign` is given the text to be signed and returns the signature's bytes.
///
/// ```
/// use countersign_token::jws;
///
/// let token = jws::sign_with(r#"{"alg":"none"}"#, b"{}", |_| Ok::<_, ()>([0xff]))?;
/// assert_eq!(token, "eyJhbGciOiJub25lIn0.e30._w");
/// # Ok::<(), ()>(())
/// ```
///
/// # Errors
///
/// What `sign` returns.
pub fn sign_with<S: AsRef<[u8]>, E>(
    header_json: &str,
    payload_json: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<S, E>,
) -> Result<String, E> {
    let length = base64url::encoded_len(header_json.len())
        + base64url::encoded_len(payload_json.len())
        + base64url::encoded_len(SHORT_SIGNATURE_BYTES)
        + 2;
    let mut token = String::with_capacity(length);
    base64url::encode_into(header_json.as_bytes(), &mut token);
    token.push('.');
    base64url::encode_into(payload_json, &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    base64url::encode_into(signature.as_ref(), &mut token);
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(json: &str) -> String {
        format!("{}.e30.AA", base64url::encode(json.as_bytes()))
    }

    fn refusal_of(header: &str) -> Malformed {
        parse(&with_header(header)).expect_err(header)
    }

    #[test]
    fn a_token_is_taken_apart() {
        let token = with_header(r#"{"typ":"at+jwt","alg":"ES256","kid":"k1"}"#);
        let compact = parse(&token).unwrap();
        assert_eq!(compact.header.algorithm, "ES256");
        assert_eq!(compact.header.kid.as_deref(), Some("k1"));
        assert_eq!(compact.header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(compact.payload_bytes().unwrap(), b"{}");
        assert_eq!(compact.signature.as_ref(), [0]);
        assert_eq!(format!("{}.AA", compact.signing_input), token);
    }

    #[test]
    fn a_plain_header_is_read_without_copies() {
        let header = Header::from_json(br#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#).unwrap();
        assert!(matches!(header.algorithm, Cow::Borrowed(_)));
        assert!(matches!(header.kid, Some(Cow::Borrowed(_))));
        assert!(matches!(header.typ, Some(Cow::Borrowed(_))));
    }

    #[test]
    fn anything_but_three_parts_is_malformed() {
        for text in ["", "a", "a.b", "a.b.c.d", "a.b.c.d.e", "{\"payload\":\"\"}"] {
            assert_eq!(parse(text).unwrap_err(), Malformed::Parts, "{text}");
        }
        let dots = ".".repeat(MAX_TOKEN_BYTES);
        assert_eq!(parse(&dots).unwrap_err(), Malformed::Parts);
    }

    #[test]
    fn the_length_is_looked_at_before_anything_else() {
        for length in [MAX_TOKEN_BYTES + 1, 1024 * 1024] {
            assert_eq!(parse(&".".repeat(length)).unwrap_err(), Malformed::TooLong);
        }
        let short = with_header(r#"{"alg":"x"}"#);
        let padding = "A".repeat(MAX_TOKEN_BYTES - short.len());
        let fitting = short.replace(".e30.", &format!(".e30{padding}."));
        assert_eq!(fitting.len(), MAX_TOKEN_BYTES);
        assert!(parse(&fitting).is_ok());
    }

    #[test]
    fn sloppy_base64_in_header_or_signature_is_malformed() {
        let token = with_header(r#"{"alg":"x"}"#);
        for sloppy in [
            token.replace(".e30.", "=.e30."),
            token.replace(".e30.", " .e30."),
            format!("{token}=="),
            format!("{token}\n"),
            token.replace(".AA", ".AB"),
            token.replace(".AA", ".A"),
            format!(" {token}"),
        ] {
            assert_eq!(parse(&sloppy).unwrap_err(), Malformed::Base64, "{sloppy}");
        }
    }

    #[test]
    fn a_header_of_the_wrong_form_is_malformed() {
        for header in [
            "",
            "null",
            "[]",
            "\"ES256\"",
            "{}",
            r#"{"kid":"k1"}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","kid":null}"#,
            r#"{"alg":"ES256","typ":{}}"#,
            r#"{"alg":"ES256"}{}"#,
            r#"{"alg":"ES256",}"#,
        ] {
            assert_eq!(refusal_of(header), Malformed::Header);
        }
    }

    #[test]
    fn a_repeated_name_in_the_header_is_malformed() {
        for header in [
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"ES256","\u0061lg":"none"}"#,
            r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
            r#"{"alg":"ES256","x":1,"\u0078":1}"#,
            r#"{"alg":"ES256","x":{"y":1,"y":1}}"#,
            r#"{"alg":"ES256","crit":["a"],"x":1,"x":1}"#,
        ] {
            assert_eq!(refusal_of(header), Malformed::Header);
        }
    }

    #[test]
    fn a_header_that_demands_an_extension_is_refused() {
        for header in [
            r#"{"alg":"ES256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"ES256","crit":[]}"#,
            r#"{"alg":"ES256","crit":null}"#,
            r#"{"alg":"ES256","\u0063rit":[]}"#,
            r#"{"alg":"ES256","b64":false}"#,
            r#"{"alg":"ES256","b64":true}"#,
            r#"{"alg":"ES256","b64":false,"crit":["b64"]}"#,
        ] {
            assert_eq!(refusal_of(header), Malformed::Extension);
        }
    }

    #[test]
    fn key_sources_in_the_header_are_mere_data() {
        let header =
            r#"{"alg":"ES256","jku":"http://127.0.0.1:9/","x5c":["MII"],"jwk":{"k":"AA"}}"#;
        let expected = Header {
            algorithm: "ES256".into(),
            kid: None,
            typ: None,
        };
        assert_eq!(parse(&with_header(header)).unwrap().header, expected);
    }

    #[test]
    fn a_deeply_nested_header_is_malformed() {
        let header = format!(r#"{{"alg":"ES256","x":{}}}"#, "[".repeat(4000));
        assert_eq!(refusal_of(&header), Malformed::Header);
    }

    #[test]
    fn the_type_is_compared_as_a_media_type() {
        let has_type = |typ: &str| {
            let header = Header {
                algorithm: "x".into(),
                kid: None,
                typ: Some(typ.into()),
            };
            header.has_type("at+jwt")
        };
        for same in [
            "at+jwt",
            "AT+JWT",
            "application/at+jwt",
            "Application/At+Jwt",
        ] {
            assert!(has_type(same), "{same}");
        }
        for other in [
            "",
            "jwt",
            "JWT",
            "rt+jwt",
            "at+jwt ",
            "application/",
            "text/at+jwt",
            "é",
        ] {
            assert!(!has_type(other), "{other}");
        }
        let untyped = Header {
            algorithm: "x".into(),
            kid: None,
            typ: None,
        };
        assert!(!untyped.has_type("at+jwt"));
    }

    #[test]
    fn a_token_is_built_in_one_piece() {
        let token = sign_with("{}", b"payload", |_| Ok::<_, ()>([1; 64])).unwrap();
        assert_eq!(token.capacity(), token.len());
        assert_eq!(
            sign_with("{}", b"", |_| Err::<[u8; 0], _>("no key")),
            Err("no key")
        );
    }

    #[test]
    fn the_header_we_write_is_the_header_we_read() {
        let json = header_json("EdDSA", "a \"quoted\"\n kid", "at+jwt");
        let header = Header::from_json(json.as_bytes()).unwrap();
        assert_eq!(header.kid.as_deref(), Some("a \"quoted\"\n kid"));
        assert!(header.has_type("at+jwt"));
        assert_eq!(
            header_json("ES256", "k", "t"),
            r#"{"alg":"ES256","kid":"k","typ":"t"}"#
        );
    }
}
