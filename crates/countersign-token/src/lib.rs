//! Verifies Countersign access tokens in a resource server.
//!
//! A resource server builds one [`Verifier`] when it starts and asks it about every token. What
//! comes back is a [`VerifiedToken`]; nothing else can make one, so a function that takes it as an
//! argument cannot be reached with a token that nobody has checked.
//!
//! ```
//! use countersign_token::{
//!     ACCESS_TOKEN_TYPE, AccessClaims, Algorithm, UnixSeconds, Verifier, VerifyError,
//!     VerifyingKey, jws,
//! };
//! # use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
//! # use std::convert::Infallible;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let key_pair = Ed25519KeyPair::generate()?;
//! # let public_key = key_pair.public_key();
//! // Normally read from the issuer's `/.well-known/jwks.json` by `JsonWebKeySet::parse`.
//! let key = VerifyingKey::ed25519("2026-11", public_key.as_ref())?;
//!
//! let verifier = Verifier::builder("https://auth.example.com")
//!     .audience("https://api.example.com")
//!     .key(key)
//!     .build();
//!
//! # let claims = AccessClaims {
//! #     iss: "https://auth.example.com".into(),
//! #     sub: "7".into(),
//! #     user_id: 7,
//! #     aud: vec!["https://api.example.com".into()],
//! #     iat: UnixSeconds::new(1_800_000_000),
//! #     exp: UnixSeconds::new(1_800_000_300),
//! #     jti: "j".into(),
//! #     sid: "s".into(),
//! #     csrf: "c".into(),
//! #     extra: serde_json::Map::new(),
//! # };
//! # let header = jws::header_json(Algorithm::Ed25519.name(), "2026-11", ACCESS_TOKEN_TYPE);
//! # let token = jws::sign_with(&header, &serde_json::to_vec(&claims)?, |input| {
//! #     Ok::<_, Infallible>(key_pair.sign(input))
//! # })?;
//! let now = UnixSeconds::new(1_800_000_001); // `verify` asks the system's clock instead
//! let token = verifier.verify_at(&token, now)?;
//! assert_eq!(token.user_id, 7);
//!
//! let refused = verifier.verify_at("not.a.token", now);
//! assert!(matches!(refused, Err(VerifyError::Malformed(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # What is refused, and why it cannot be otherwise
//!
//! * The key is the one that `kid` names, and the algorithm is the key's; the header's `alg` is
//!   only compared with it ([RFC 8725, section 3.1]). Nothing in a header selects a source of keys.
//! * The signature is checked before the claims are looked at.
//! * What the issuer listed as ended ([`Verifier::apply_revocations`]) is refused from then on, also
//!   if the token was accepted before.
//! * JSON with duplicate member names, base64url with padding or stray bits, and claims of a wrong
//!   type are refused, never repaired: two programs must not read the same token differently.
//!
//! # Following an issuer
//!
//! With the feature `remote`, off by default, `remote::RemoteVerifier` fetches the issuer's keys and
//! its list of ended sessions, and keeps following both. It adds a small HTTP client: tokio, hyper,
//! and rustls on the same aws-lc-rs. Without the feature, nothing here opens a connection.
//!
//! # The rooms
//!
//! [`jws`] is the compact serialisation, for signing too; [`AccessClaims`] is the one shape of the
//! claims; [`JsonWebKeySet`] publishes and imports public keys; [`revocation`] is the one shape of the
//! list of what ended before its time; [`json`] and [`base64url`] are the strict readers under all of
//! them; [`csrf`] compares CSRF tokens.
//!
//! [RFC 8725, section 3.1]: https://www.rfc-editor.org/rfc/rfc8725#section-3.1

pub mod base64url;
mod claims;
pub mod csrf;
pub mod json;
pub mod jwks;
pub mod jws;
mod key;
#[cfg(feature = "remote")]
pub mod remote;
pub mod revocation;
mod revoked;
mod time;
mod verifier;

pub use base64url::Base64Error;
pub use claims::{ACCESS_TOKEN_TYPE, AccessClaims, RESERVED_CLAIMS};
pub use json::JsonError;
pub use jwks::{JsonWebKey, JsonWebKeySet, JwksError};
pub use jws::Malformed;
pub use key::{Algorithm, BadSignature, KeyError, MIN_SECRET_BYTES, VerifyingKey};
pub use revocation::RevocationList;
pub use time::UnixSeconds;
pub use verifier::{Invalid, VerifiedToken, Verifier, VerifierBuilder, VerifyError};
