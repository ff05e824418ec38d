//! The known device: what a browser shows that its user has signed in from it before.
//!
//! It proves nothing about who calls, and lets nobody in. Whoever shows a genuine one for the account that
//! they sign in to is counted by the device instead of by the account and the address, so that whatever
//! strangers attempt keeps the owner from nothing.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_token::base64url;
use jiff::Timestamp;
use uuid::Uuid;

use crate::clock::Randomness;
use crate::secrets::{Purpose, RootSecret, RootSecrets};
use crate::session::saturating_add;
use crate::user::UserId;

/// How long a device is known after its last sign-in.
pub const DEVICE_LIFETIME: Duration = Duration::from_hours(180 * 24);

/// Device, user, when it was issued in milliseconds; then the code over these.
const FIELDS_BYTES: usize = 16 + 8 + 8;
const CODE_BYTES: usize = 32;

/// The length of a token in base64url: what is longer or shorter is not even decoded.
const TOKEN_CHARACTERS: usize = ((FIELDS_BYTES + CODE_BYTES) * 8).div_ceil(6);

/// What a browser keeps to be known again. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceToken(String);

impl DeviceToken {
    /// For the cookie.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeviceToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeviceToken(redacted)")
    }
}

/// A device that its user has signed in from before. Only [`DeviceTokens`] makes one: it is the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownDevice {
    pub(crate) id: Uuid,
    pub(crate) user: UserId,
}

/// Signs device tokens and reads presented ones.
pub(crate) struct DeviceTokens {
    key: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl DeviceTokens {
    pub(crate) fn derive(roots: &RootSecrets) -> Self {
        let key = |root: &RootSecret| root.mac_key(Purpose::DeviceToken);
        Self {
            key: key(&roots.current),
            previous: roots.previous.iter().map(key).collect(),
        }
    }

    /// A device that nobody has signed in from before.
    pub(crate) fn new_device(user: UserId, randomness: &dyn Randomness) -> KnownDevice {
        let mut id = [0; 16];
        randomness.fill(&mut id);
        KnownDevice {
            id: Uuid::from_bytes(id),
            user,
        }
    }

    /// The token of a device, as of now.
    pub(crate) fn sign(&self, device: KnownDevice, now: Timestamp) -> DeviceToken {
        let mut bytes = Vec::with_capacity(FIELDS_BYTES + CODE_BYTES);
        bytes.extend(device.id.as_bytes());
        bytes.extend(device.user.0.to_be_bytes());
        bytes.extend(now.as_millisecond().to_be_bytes());
        let code = hmac::sign(&self.key, &bytes);
        bytes.extend(code.as_ref());
        DeviceToken(base64url::encode(&bytes))
    }

    /// The device of a token, if it is genuine and not too old; also one signed under a previous secret.
    pub(crate) fn read(&self, token: &str, now: Timestamp) -> Option<KnownDevice> {
        if token.len() != TOKEN_CHARACTERS {
            return None;
        }
        let bytes = base64url::decode(token).ok()?;
        let (fields, code) = bytes.split_first_chunk::<FIELDS_BYTES>()?;
        let mut keys = std::iter::once(&self.key).chain(&self.previous);
        // Compared in constant time.
        if !keys.any(|key| hmac::verify(key, fields, code).is_ok()) {
            return None;
        }
        let (id, rest) = fields.split_first_chunk::<16>()?;
        let (user, issued) = rest.split_first_chunk::<8>()?;
        let issued = i64::from_be_bytes(*issued.first_chunk()?);
        let issued = Timestamp::from_millisecond(issued).ok()?;
        let is_of_age = now < saturating_add(issued, DEVICE_LIFETIME);
        is_of_age.then(|| KnownDevice {
            id: Uuid::from_bytes(*id),
            user: UserId(i64::from_be_bytes(*user)),
        })
    }
}

impl fmt::Debug for DeviceTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeviceTokens(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    fn root() -> RootSecret {
        RootSecret::generate(&SystemRandomness)
    }

    #[test]
    fn a_device_is_known_again_until_it_is_too_old() {
        let tokens = DeviceTokens::derive(&(&root()).into());
        let device = DeviceTokens::new_device(UserId(7), &SystemRandomness);
        let token = tokens.sign(device, now());
        assert_eq!(tokens.read(token.as_str(), now()), Some(device));
        let last = saturating_add(
            now(),
            DEVICE_LIFETIME.saturating_sub(Duration::from_millis(1)),
        );
        assert_eq!(tokens.read(token.as_str(), last), Some(device));
        let too_late = saturating_add(now(), DEVICE_LIFETIME);
        assert_eq!(tokens.read(token.as_str(), too_late), None);
    }

    #[test]
    fn a_token_with_any_character_changed_is_nothing() {
        let tokens = DeviceTokens::derive(&(&root()).into());
        let device = DeviceTokens::new_device(UserId(7), &SystemRandomness);
        let token = tokens.sign(device, now());
        for position in 0..token.as_str().len() {
            let mut bytes = token.as_str().as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(bytes).unwrap();
            assert_eq!(tokens.read(&other, now()), None, "position {position}");
        }
        for other in [
            "",
            "A",
            &token.as_str()[1..],
            &format!("{}A", token.as_str()),
        ] {
            assert_eq!(tokens.read(other, now()), None, "{other}");
        }
    }

    #[test]
    fn a_token_outlives_the_secret_that_it_was_signed_under_while_that_is_honoured() {
        let (old, new) = (root(), root());
        let device = DeviceTokens::new_device(UserId(7), &SystemRandomness);
        let token = DeviceTokens::derive(&(&old).into()).sign(device, now());
        let both = RootSecrets {
            current: new.clone(),
            previous: vec![old],
        };
        let read = DeviceTokens::derive(&both).read(token.as_str(), now());
        assert_eq!(read, Some(device));
        let read = DeviceTokens::derive(&(&new).into()).read(token.as_str(), now());
        assert_eq!(read, None);
    }
}
