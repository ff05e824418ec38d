//! What a letter's link proves: that whoever shows it reads that mailbox.
//!
//! A token is the id of a row and 256 bits that are derived from the row under a key of their own. Neither
//! the database nor the outbox holds anything that works as one: the bits come into being when the letter is
//! written, and again when they are compared.
//!
//! A row also holds what it is bound to, as a code: the stored password and the address that the user had
//! when it was made. When either is another, whoever changed it, a Django site next door among them, the
//! token is dead.

use std::fmt;

use aws_lc_rs::hmac;
use countersign_token::base64url;
use jiff::Timestamp;
use uuid::Uuid;

use crate::clock::Randomness;
use crate::error::StoreError;
use crate::password::EncodedPassword;
use crate::secrets::{Purpose, RootSecret, RootSecrets};
use crate::user::{Credentials, Email, NewUser, PersonName, UserId, Username};
use crate::validation::ValidationError;

const CODE_BYTES: usize = 32;

/// The length of a token in base64url: what is longer or shorter is not even decoded.
const TOKEN_CHARACTERS: usize = ((16 + CODE_BYTES) * 8).div_ceil(6);

/// How many tokens of one purpose a user may have at once; of more, the oldest are removed. Whoever asks
/// twice may follow the first letter.
pub const MOST_MAILED_TOKENS: u32 = 5;

/// The name of a mailed token, or of a registration. It proves nothing by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailedTokenId(pub Uuid);

impl MailedTokenId {
    /// A new name, from the time and 74 random bits.
    pub fn new(now: Timestamp, randomness: &dyn Randomness) -> Self {
        let mut random = [0; 10];
        randomness.fill(&mut random);
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }
}

impl fmt::Display for MailedTokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

/// What a user's token is for, and for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MailedPurpose {
    /// Setting a new password without the old one.
    ResetPassword,
    /// Proving the address that the user has.
    VerifyEmail,
    /// Proving the address that the user is to have.
    ChangeEmail,
}

impl MailedPurpose {
    /// Every purpose.
    pub const ALL: [Self; 3] = [Self::ResetPassword, Self::VerifyEmail, Self::ChangeEmail];

    /// The stored word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ResetPassword => "reset_password",
            Self::VerifyEmail => "verify_email",
            Self::ChangeEmail => "change_email",
        }
    }

    /// The purpose that a stored word names.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.code() == code)
    }

    /// Whether a token dies with the password in force. One that only proves the user's own address
    /// survives that.
    const fn is_bound_to_password(self) -> bool {
        match self {
            Self::ResetPassword | Self::ChangeEmail => true,
            Self::VerifyEmail => false,
        }
    }
}

/// A code over what a token is bound to. It tells nothing without the root secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding(pub [u8; CODE_BYTES]);

/// A user's token, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailedToken {
    /// Its name.
    pub id: MailedTokenId,
    /// What it is for.
    pub purpose: MailedPurpose,
    /// Whose it is.
    pub user: UserId,
    /// The address that it is mailed to, and that it proves.
    pub email: String,
    /// What it is bound to.
    pub binding: Binding,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
}

/// Somebody who has registered and has not proven the address yet. The name is reserved meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name, and that of its token.
    pub id: MailedTokenId,
    /// The name to sign in with.
    pub username: String,
    /// The address to be proven.
    pub email: String,
    /// The stored password.
    pub password: EncodedPassword,
    /// The given name; may be empty.
    pub first_name: String,
    /// The family name; may be empty.
    pub last_name: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// From when on it is worth nothing, and the name is free again.
    pub expires_at: Timestamp,
}

impl Registration {
    /// The user that it becomes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if a field holds what was never accepted.
    pub fn into_user(self, now: Timestamp) -> Result<NewUser, StoreError> {
        let wrong =
            |_: ValidationError| StoreError::Corrupt("a registration that cannot be".to_owned());
        Ok(NewUser {
            username: Username::parse(&self.username).map_err(wrong)?,
            email: Email::parse_known(&self.email).map_err(wrong)?,
            first_name: PersonName::parse("first_name", &self.first_name).map_err(wrong)?,
            last_name: PersonName::parse("last_name", &self.last_name).map_err(wrong)?,
            password: self.password,
            is_staff: false,
            is_superuser: false,
            date_joined: now,
        })
    }
}

/// What stands behind the name of a token.
#[derive(Debug, Clone)]
pub enum StoredToken {
    /// A user's token, with the user as of now.
    OfUser(MailedToken, Credentials),
    /// A registration.
    OfRegistration(Registration),
}

impl StoredToken {
    /// From when on it is worth nothing.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::OfUser(token, _) => token.expires_at,
            Self::OfRegistration(registration) => registration.expires_at,
        }
    }
}

/// A token for a letter's link, and how long it works. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct MailedLink {
    token: String,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
}

impl MailedLink {
    /// The token: 64 characters of base64url.
    pub fn token(&self) -> &str {
        &self.token
    }
}

#[cfg(any(test, feature = "testing"))]
impl MailedLink {
    /// One that proves nothing.
    pub fn example(expires_at: Timestamp) -> Self {
        Self {
            token: "A".repeat(TOKEN_CHARACTERS),
            expires_at,
        }
    }
}

impl fmt::Debug for MailedLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MailedLink(redacted)")
    }
}

/// A token as somebody shows it: of the right form, and nothing more is known of it.
#[derive(Clone, Copy)]
pub(crate) struct PresentedToken {
    pub(crate) id: MailedTokenId,
    code: [u8; CODE_BYTES],
}

impl PresentedToken {
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text.len() != TOKEN_CHARACTERS {
            return None;
        }
        let bytes = base64url::decode(text).ok()?;
        let (id, code) = bytes.split_first_chunk::<16>()?;
        Some(Self {
            id: MailedTokenId(Uuid::from_bytes(*id)),
            code: code.try_into().ok()?,
        })
    }
}

/// Derives tokens, and compares what is shown with them.
pub(crate) struct MailedTokens {
    key: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl MailedTokens {
    pub(crate) fn derive(roots: &RootSecrets) -> Self {
        let key = |root: &RootSecret| root.mac_key(Purpose::MailedToken);
        Self {
            key: key(&roots.current),
            previous: roots.previous.iter().map(key).collect(),
        }
    }

    /// What a token of this purpose for this user is bound to, as of now.
    pub(crate) fn binding(&self, purpose: MailedPurpose, user: &Credentials) -> Binding {
        let mut code = [0; CODE_BYTES];
        let signed = binding(&self.key, purpose, user).sign();
        code.copy_from_slice(signed.as_ref());
        Binding(code)
    }

    /// Whether what a token is bound to still is so.
    pub(crate) fn is_bound(&self, token: &MailedToken, user: &Credentials) -> bool {
        self.keys().any(|key| {
            let expected = binding(key, token.purpose, user).sign();
            is_same(expected.as_ref(), &token.binding.0)
        })
    }

    /// What goes into the letter.
    pub(crate) fn link(&self, stored: &StoredToken) -> MailedLink {
        let (id, context) = code(&self.key, stored);
        let mut bytes = Vec::with_capacity(16 + CODE_BYTES);
        bytes.extend(id.0.as_bytes());
        bytes.extend(context.sign().as_ref());
        MailedLink {
            token: base64url::encode(&bytes),
            expires_at: stored.expires_at(),
        }
    }

    /// Whether somebody shows the token that was mailed for this row, also one derived from a previous
    /// root secret. Constant time.
    pub(crate) fn is_genuine(&self, presented: &PresentedToken, stored: &StoredToken) -> bool {
        self.keys().any(|key| {
            let (id, context) = code(key, stored);
            id == presented.id && is_same(context.sign().as_ref(), &presented.code)
        })
    }

    fn keys(&self) -> impl Iterator<Item = &hmac::Key> {
        std::iter::once(&self.key).chain(&self.previous)
    }
}

impl fmt::Debug for MailedTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MailedTokens(redacted)")
    }
}

fn is_same(one: &[u8], other: &[u8; CODE_BYTES]) -> bool {
    use subtle::ConstantTimeEq as _;
    one.ct_eq(other).into()
}

fn code(key: &hmac::Key, stored: &StoredToken) -> (MailedTokenId, hmac::Context) {
    let mut context = hmac::Context::with_key(key);
    let (id, expires_at) = match stored {
        StoredToken::OfUser(token, _) => {
            add(&mut context, b"token of a user");
            add(&mut context, token.purpose.code().as_bytes());
            add(&mut context, &token.user.0.to_be_bytes());
            add(&mut context, token.email.as_bytes());
            add(&mut context, &token.binding.0);
            (token.id, token.expires_at)
        }
        StoredToken::OfRegistration(registration) => {
            add(&mut context, b"token of a registration");
            add(&mut context, registration.username.as_bytes());
            add(&mut context, registration.email.as_bytes());
            add(&mut context, registration.password.as_str().as_bytes());
            (registration.id, registration.expires_at)
        }
    };
    add(&mut context, id.0.as_bytes());
    add(&mut context, &expires_at.as_millisecond().to_be_bytes());
    (id, context)
}

fn binding(key: &hmac::Key, purpose: MailedPurpose, user: &Credentials) -> hmac::Context {
    let mut context = hmac::Context::with_key(key);
    add(&mut context, b"binding");
    add(&mut context, &user.user.id.0.to_be_bytes());
    add(&mut context, user.user.email.as_bytes());
    if purpose.is_bound_to_password() {
        add(&mut context, user.password.as_str().as_bytes());
    }
    context
}

/// Each field after its length, so that no two lists of fields are the same bytes.
fn add(context: &mut hmac::Context, field: &[u8]) {
    context.update(&(field.len() as u64).to_be_bytes());
    context.update(field);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemRandomness;
    use crate::session::saturating_add;
    use crate::user::User;

    fn tokens() -> MailedTokens {
        MailedTokens::derive(&(&RootSecret::generate(&SystemRandomness)).into())
    }

    fn ana() -> Credentials {
        Credentials {
            user: User {
                id: UserId(7),
                username: "ana".to_owned(),
                email: "ana@example.org".to_owned(),
                email_verified: false,
                first_name: String::new(),
                last_name: String::new(),
                is_active: true,
                is_staff: false,
                is_superuser: false,
                last_login: None,
                date_joined: Timestamp::UNIX_EPOCH,
            },
            password: EncodedPassword::new("argon2$one"),
        }
    }

    fn token(tokens: &MailedTokens, purpose: MailedPurpose) -> MailedToken {
        let now = Timestamp::from_second(1_795_341_600).unwrap();
        MailedToken {
            id: MailedTokenId::new(now, &SystemRandomness),
            purpose,
            user: UserId(7),
            email: "ana@example.org".to_owned(),
            binding: tokens.binding(purpose, &ana()),
            created_at: now,
            expires_at: saturating_add(now, Duration::from_hours(1)),
        }
    }

    fn shown(link: &MailedLink) -> PresentedToken {
        PresentedToken::read(link.token()).unwrap()
    }

    #[test]
    fn a_token_is_64_characters_and_is_known_again() {
        let tokens = tokens();
        let stored = StoredToken::OfUser(token(&tokens, MailedPurpose::ResetPassword), ana());
        let link = tokens.link(&stored);
        assert_eq!(link.token().len(), 64);
        assert!(tokens.is_genuine(&shown(&link), &stored));
        assert_eq!(format!("{link:?}"), "MailedLink(redacted)");
    }

    #[test]
    fn whatever_of_the_row_is_another_makes_another_token() {
        let tokens = tokens();
        let row = token(&tokens, MailedPurpose::ResetPassword);
        let link = tokens.link(&StoredToken::OfUser(row.clone(), ana()));
        let presented = shown(&link);
        let others: [fn(&mut MailedToken); 6] = [
            |row| row.purpose = MailedPurpose::ChangeEmail,
            |row| row.user = UserId(8),
            |row| row.email.push('x'),
            |row| row.binding.0[0] ^= 1,
            |row| row.expires_at = saturating_add(row.expires_at, Duration::from_millis(1)),
            |row| row.id = MailedTokenId(Uuid::from_u128(7)),
        ];
        for change in others {
            let mut other = row.clone();
            change(&mut other);
            let other = StoredToken::OfUser(other, ana());
            assert!(!tokens.is_genuine(&presented, &other), "{other:?}");
        }
    }

    #[test]
    fn every_bit_of_the_code_counts() {
        let tokens = tokens();
        let stored = StoredToken::OfUser(token(&tokens, MailedPurpose::VerifyEmail), ana());
        let presented = shown(&tokens.link(&stored));
        for bit in 0..256 {
            let mut wrong = presented;
            wrong.code[bit / 8] ^= 1 << (bit % 8);
            assert!(!tokens.is_genuine(&wrong, &stored));
        }
    }

    #[test]
    fn a_token_is_bound_to_password_and_address() {
        let tokens = tokens();
        let another_password = Credentials {
            password: EncodedPassword::new("argon2$two"),
            ..ana()
        };
        let mut another_address = ana();
        "ana@example.com".clone_into(&mut another_address.user.email);
        for purpose in MailedPurpose::ALL {
            let row = token(&tokens, purpose);
            assert!(tokens.is_bound(&row, &ana()));
            assert!(!tokens.is_bound(&row, &another_address), "{purpose:?}");
            let survives = purpose == MailedPurpose::VerifyEmail;
            assert_eq!(tokens.is_bound(&row, &another_password), survives);
        }
    }

    #[test]
    fn another_root_secret_derives_others_and_a_previous_one_is_honoured() {
        let old = RootSecret::generate(&SystemRandomness);
        let before = MailedTokens::derive(&(&old).into());
        let row = token(&before, MailedPurpose::ResetPassword);
        let stored = StoredToken::OfUser(row.clone(), ana());
        let presented = shown(&before.link(&stored));
        assert!(!tokens().is_genuine(&presented, &stored));
        assert!(!tokens().is_bound(&row, &ana()));
        let after = MailedTokens::derive(&RootSecrets {
            current: RootSecret::generate(&SystemRandomness),
            previous: vec![old],
        });
        assert!(after.is_genuine(&presented, &stored));
        assert!(after.is_bound(&row, &ana()));
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_none() {
        for text in ["", "x", &"A".repeat(63), &"A".repeat(65), &"=".repeat(64)] {
            assert!(PresentedToken::read(text).is_none(), "{text}");
        }
        assert!(PresentedToken::read(&"A".repeat(64)).is_some());
    }
}
