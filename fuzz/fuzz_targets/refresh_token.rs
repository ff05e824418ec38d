//! A refresh token is read only if it is, byte for byte, one that was derived.
//!
//! An input is, by its first byte:
//! - `r`: the token itself;
//! - `m`: edits of a genuine token (see `edited`);
//! - `s`: a header, a line feed and a payload, signed with the key of refresh tokens;
//! - `o`: the same, signed with another key of the same root secret;
//! - `d`: a session and its limits, in bytes: derive its token and read it back.
#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_core::refresh_token::{RefreshTokenError, RefreshTokens};
use countersign_core::secrets::{Purpose, RootSecret};
use countersign_core::session::{Generation, Session, SessionId, SessionLimits};
use countersign_core::user::UserId;
use countersign_fuzz::{NOW, edited, now, root_secret};
use countersign_token::{json, jws};
use jiff::Timestamp;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use uuid::Uuid;

const ISSUER: &str = "https://auth.test";

struct Keys {
    ours: RefreshTokens,
    other_issuer: RefreshTokens,
    other_root: RefreshTokens,
    key: hmac::Key,
    other_key: hmac::Key,
    genuine: [String; 2],
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let root = root_secret();
    let other = RootSecret::parse("Q8x1Tn5cKd0sWb7yRm2gJf6uEa9LhVp4XqOiNwAkZ3v").expect("good");
    let ours = RefreshTokens::new(&root, ISSUER);
    let limits = SessionLimits::default();
    Keys {
        genuine: [1, 2].map(|generation| {
            let token = ours.derive(&session(generation), &limits);
            assert!(ours.read(token.as_str(), now()).is_ok());
            token.as_str().to_owned()
        }),
        other_issuer: RefreshTokens::new(&root, "https://auth.test/"),
        other_root: RefreshTokens::new(&other, ISSUER),
        key: root.mac_key(Purpose::RefreshToken),
        other_key: root.mac_key(Purpose::CsrfToken),
        ours,
    }
});

fn session(generation: u32) -> Session {
    Session {
        id: SessionId(Uuid::from_u128(0x0199_c0de_7b1c_7000_8000_0123_4567_89ab)),
        user_id: UserId(1),
        generation: Generation(generation),
        opened_at: now(),
        rotated_at: now(),
        remember: true,
        address: None,
        user_agent: None,
        end: None,
    }
}

fuzz_target!(|input: &[u8]| -> Corpus {
    match input {
        [b'r', token @ ..] => std::str::from_utf8(token).map_or(Corpus::Reject, raw),
        [b'm', edits @ ..] => {
            let [genuine, other] = &KEYS.genuine;
            edited(genuine, other, edits).map_or(Corpus::Reject, |token| raw(&token))
        }
        [b's', parts @ ..] => signed(parts),
        [b'o', parts @ ..] => signed_with(&KEYS.other_key, parts).map_or(Corpus::Reject, |token| {
            let read = KEYS.ours.read(&token, now());
            assert_eq!(read, Err(RefreshTokenError::Invalid), "{token}");
            Corpus::Keep
        }),
        [b'd', numbers @ ..] => derived(numbers),
        _ => Corpus::Reject,
    }
});

fn raw(token: &str) -> Corpus {
    let read = KEYS.ours.read(token, now());
    match KEYS.genuine.iter().position(|genuine| genuine == token) {
        Some(place) => {
            let generation = read.expect("a genuine one").generation().0;
            assert_eq!(usize::try_from(generation), Ok(place + 1));
        }
        None => assert_eq!(read, Err(RefreshTokenError::Invalid), "{token}"),
    }
    Corpus::Keep
}

fn signed_with(key: &hmac::Key, parts: &[u8]) -> Option<String> {
    let end = parts.iter().position(|byte| *byte == b'\n')?;
    let header = std::str::from_utf8(&parts[..end]).ok()?;
    let sign = |input: &[u8]| Ok::<_, Infallible>(hmac::sign(key, input));
    let Ok(token) = jws::sign_with(header, &parts[end + 1..], sign);
    Some(token)
}

/// Signed with the right key: read only if it is whole and says what was read.
fn signed(parts: &[u8]) -> Corpus {
    let Some(token) = signed_with(&KEYS.key, parts) else {
        return Corpus::Reject;
    };
    assert!(KEYS.other_root.read(&token, now()).is_err());
    if let Ok(presented) = KEYS.ours.read(&token, now()) {
        let end = parts.iter().position(|byte| *byte == b'\n');
        let (header, payload) = parts.split_at(end.expect("there was one"));
        let header: Value = serde_json::from_slice(header).expect("a header is JSON");
        assert_eq!(header["alg"], "HS256");
        let typ = header["typ"].as_str().map(str::to_ascii_lowercase);
        assert!(matches!(
            typ.as_deref(),
            Some("refresh+jwt" | "application/refresh+jwt")
        ));
        let said = json::value_from_slice(&payload[1..]).expect("no name is repeated");
        assert_eq!(said["iss"], ISSUER);
        assert_eq!(
            said["sub"].as_str().and_then(|sub| sub.parse().ok()),
            Some(presented.user().0)
        );
        assert_eq!(said["gen"], presented.generation().0);
        let id = said["sid"]
            .as_str()
            .and_then(|sid| Uuid::parse_str(sid).ok());
        assert_eq!(id, Some(presented.session().0));
        assert!(said["exp"].as_u64().is_some_and(|exp| exp > NOW.into()));
    }
    Corpus::Keep
}

/// A session of any kind: its token says what it is, expires when it does, and is nobody else's.
fn derived(numbers: &[u8]) -> Corpus {
    let mut numbers = Numbers(numbers);
    let start = |numbers: &mut Numbers<'_>| {
        // Days around now, to the millisecond.
        let offset = i64::from(numbers.next_u32()) - i64::from(u32::MAX / 2);
        Timestamp::from_millisecond(i64::from(NOW) * 1_000 + offset).expect("within the calendar")
    };
    let session = Session {
        id: SessionId(Uuid::from_u64_pair(numbers.next_u64(), numbers.next_u64())),
        user_id: UserId(numbers.next_u64().cast_signed()),
        opened_at: start(&mut numbers),
        rotated_at: start(&mut numbers),
        ..session(numbers.next_u32())
    };
    let limits = SessionLimits {
        idle: Duration::from_millis(numbers.next_u32().into()),
        absolute: Duration::from_millis(numbers.next_u32().into()),
        grace: Duration::ZERO,
    };
    let token = KEYS.ours.derive(&session, &limits);
    assert!(token == KEYS.ours.derive(&session, &limits), "other bytes");
    let ends = session
        .opened_at
        .as_millisecond()
        .saturating_add(i64::try_from(limits.absolute.as_millis()).expect("days"))
        .min(
            session
                .rotated_at
                .as_millisecond()
                .saturating_add(i64::try_from(limits.idle.as_millis()).expect("days")),
        );
    let read = KEYS.ours.read(token.as_str(), now());
    if ends / 1_000 <= i64::from(NOW) {
        assert_eq!(read, Err(RefreshTokenError::Expired));
    } else {
        let presented = read.expect("it has time left");
        assert_eq!(presented.session(), session.id);
        assert_eq!(presented.user(), session.user_id);
        assert_eq!(presented.generation(), session.generation);
    }
    let next = Session {
        generation: session.generation.next(),
        ..session.clone()
    };
    let is_last = session.generation == next.generation;
    assert!(is_last || token != KEYS.ours.derive(&next, &limits));
    for stranger in [&KEYS.other_issuer, &KEYS.other_root] {
        let read = stranger.read(token.as_str(), now());
        assert_eq!(read, Err(RefreshTokenError::Invalid));
    }
    Corpus::Keep
}

/// Numbers from bytes; zeros after the end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next_u32(&mut self) -> u32 {
        let (now, later) = self.0.split_at(self.0.len().min(4));
        self.0 = later;
        let mut bytes = [0; 4];
        bytes[..now.len()].copy_from_slice(now);
        u32::from_be_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }
}
