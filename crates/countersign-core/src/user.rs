//! A user: a row of Django's `auth_user`.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

use crate::domain;
pub use crate::likeness::Likeness;
use crate::password::EncodedPassword;
use crate::validation::{FieldError, ValidationError};

/// Django's limit for `auth_user.username`, in characters.
pub const MAX_USERNAME_CHARACTERS: usize = 150;
/// Django's limit for `auth_user.first_name` and `last_name`, in characters.
pub const MAX_NAME_CHARACTERS: usize = 150;
/// Django's limit for `auth_user.email`, in characters.
pub const MAX_EMAIL_CHARACTERS: usize = 254;

/// A user's number. Never given to a second user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Who someone is, without the password.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a column of Django's, or says whether there is a row of ours"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub id: UserId,
    /// The name to sign in with.
    pub username: String,
    /// The e-mail address; may be empty.
    pub email: String,
    /// Whether the user has proven to read what is mailed there.
    pub email_verified: bool,
    /// The given name; may be empty.
    pub first_name: String,
    /// The family name; may be empty.
    pub last_name: String,
    /// Whether the user may sign in.
    pub is_active: bool,
    /// Whether the user may enter the admin site.
    pub is_staff: bool,
    /// Whether the user has every permission.
    pub is_superuser: bool,
    /// The last sign-in.
    pub last_login: Option<Timestamp>,
    /// When the user was made.
    pub date_joined: Timestamp,
}

/// A user together with the stored password, as a login needs it.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user.
    pub user: User,
    /// The stored password.
    pub password: EncodedPassword,
}

/// A username in the form in which it is stored and looked up: NFKC, as Django normalises it, one
/// to 150 characters of letters, digits and `@ . + - _`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Username(String);

impl Username {
    /// Reads and checks a name for a new user.
    ///
    /// # Errors
    /// A [`FieldError`] on `username` that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let normal = Self::normalise(text);
        let characters = normal.chars().count();
        let problem = if characters == 0 {
            ("required", "Enter a username.".to_owned())
        } else if characters > MAX_USERNAME_CHARACTERS {
            (
                "too_long",
                format!("Use at most {MAX_USERNAME_CHARACTERS} characters."),
            )
        } else if !normal.chars().all(is_username_character) {
            (
                "invalid",
                "Use letters, digits and @ . + - _ only.".to_owned(),
            )
        } else {
            return Ok(Self(normal));
        };
        Err(FieldError::new("username", problem.0, problem.1).into())
    }

    /// The form in which a typed name is looked up.
    pub fn normalise(text: &str) -> String {
        text.nfkc().collect()
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it looks like: no two users are made whose names are alike.
    pub fn likeness(&self) -> Likeness {
        Likeness::of(&self.0)
    }
}

/// Django's `UnicodeUsernameValidator`: `^[\w.@+-]+$`.
fn is_username_character(character: char) -> bool {
    character.is_alphanumeric() || "_@.+-".contains(character)
}

/// An e-mail address as it is stored: empty, or one `@` with something on both sides, behind it a domain in
/// lower case. Whether mail arrives there is another question, and answered by sending some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Email(String);

impl Email {
    /// Reads and checks a new address; empty means none. Its domain is one that there can be, by IDNA and
    /// by the DNS.
    ///
    /// # Errors
    /// A [`FieldError`] on `email`.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        Self::read(text, domain::of_new)
    }

    /// Reads an address that somebody may have already; empty means none. Other programs have stored some
    /// whose domain no new one can have, and their users are to be found all the same.
    ///
    /// # Errors
    /// A [`FieldError`] on `email`.
    pub fn parse_known(text: &str) -> Result<Self, ValidationError> {
        Self::read(text, |domain| Some(domain.to_lowercase()))
    }

    fn read(text: &str, domain: impl Fn(&str) -> Option<String>) -> Result<Self, ValidationError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let read = || {
            if text.chars().nth(MAX_EMAIL_CHARACTERS).is_some() {
                return None;
            }
            let (local, typed) = text.rsplit_once('@')?;
            let clean = |part: &str| {
                !part.is_empty()
                    && !part
                        .chars()
                        .any(|c| c.is_control() || c.is_whitespace() || "<>,;@".contains(c))
            };
            let typed = Some(typed).filter(|typed| clean(local) && clean(typed))?;
            let address = format!("{local}@{}", domain(typed)?);
            // In Unicode it may be longer than it was typed.
            (address.chars().count() <= MAX_EMAIL_CHARACTERS).then_some(Self(address))
        };
        read().ok_or_else(|| {
            let detail = "Enter an e-mail address like ana@example.org.";
            FieldError::new("email", "invalid", detail).into()
        })
    }

    /// The address itself; empty for none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which two addresses are compared; empty for none.
    ///
    /// [`Email::fold`] of the address.
    pub fn folded(&self) -> String {
        Self::fold(&self.0)
    }

    /// The same with the domain in Unicode, as it may be stored; empty for none. It is the very same where
    /// the domain is ASCII.
    pub fn folded_in_unicode(&self) -> String {
        let folded = self.folded();
        match folded.rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain::in_unicode(domain)),
            None => folded,
        }
    }

    /// The form in which two addresses are compared, of one as it is stored: NFC, and in lower case
    /// before the `@` as well as behind it, for no provider gives `Ana@` and `ana@` to two people. The domain
    /// is in ASCII, so that one in Unicode and its `xn--` form are the same.
    ///
    /// Folded no further: `ß` is not `ss`, and no dots or `+words` are left out, since these may be
    /// other people's mailboxes.
    ///
    /// Only for comparing. Some letters fold to those of ASCII (the Kelvin sign to `k`), so whoever looks a
    /// user up by this writes to the address that is stored, never to the one that was typed
    /// (CVE-2019-19844).
    pub fn fold(address: &str) -> String {
        match Self::with_domain_in_ascii(address) {
            Some((local, domain)) => format!("{}@{domain}", Self::fold_letters(local)),
            None => Self::fold_letters(address),
        }
    }

    /// The form in which mail servers take it, of one as it is stored: with the domain in ASCII, if it is
    /// one.
    pub fn for_delivery(address: &str) -> String {
        match Self::with_domain_in_ascii(address) {
            Some((local, domain)) => format!("{local}@{domain}"),
            None => address.to_owned(),
        }
    }

    /// What is before the `@`, and the domain. `None`: there is no domain that IDNA knows.
    fn with_domain_in_ascii(address: &str) -> Option<(&str, Cow<'_, str>)> {
        let (local, domain) = address.rsplit_once('@')?;
        Some((local, domain::in_ascii(domain)?))
    }

    fn fold_letters(text: &str) -> String {
        // Letter by letter, and a sigma as any other: how it is written depends on what follows. Once
        // more into NFC, which lower case may have left.
        text.nfc()
            .flat_map(char::to_lowercase)
            .map(|letter| if letter == 'ς' { 'σ' } else { letter })
            .nfc()
            .collect()
    }
}

/// A given or family name: at most 150 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PersonName(String);

impl PersonName {
    /// Reads and checks a name given in `field`.
    ///
    /// # Errors
    /// A [`FieldError`] on `field`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, ValidationError> {
        let text = text.trim();
        if text.chars().count() > MAX_NAME_CHARACTERS {
            let detail = format!("Use at most {MAX_NAME_CHARACTERS} characters.");
            return Err(FieldError::new(field, "too_long", detail).into());
        }
        if text.chars().any(char::is_control) {
            let detail = "Leave out control characters such as line breaks.";
            return Err(FieldError::new(field, "invalid", detail).into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The name itself; may be empty.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a user may change of themselves. `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProfileChange {
    /// The new given name.
    pub first_name: Option<PersonName>,
    /// The new family name.
    pub last_name: Option<PersonName>,
}

/// What a new user starts with.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name to sign in with.
    pub username: Username,
    /// The e-mail address; may be empty.
    pub email: Email,
    /// The given name; may be empty.
    pub first_name: PersonName,
    /// The family name; may be empty.
    pub last_name: PersonName,
    /// The stored password.
    pub password: EncodedPassword,
    /// Whether the user may enter the admin site.
    pub is_staff: bool,
    /// Whether the user has every permission.
    pub is_superuser: bool,
    /// When the user is made.
    pub date_joined: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_is_kept_in_nfkc() {
        assert_eq!(Username::parse("ａｎａ").unwrap().as_str(), "ana");
        assert_eq!(Username::parse("A\u{30a}sa").unwrap().as_str(), "\u{c5}sa");
    }

    #[test]
    fn usernames_django_would_refuse_are_refused() {
        for bad in ["", "a b", "ana\0", "ana\n", "<script>", &"a".repeat(151)] {
            assert!(Username::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Username::parse("ana.maria+test@example.org_-").is_ok());
    }

    #[test]
    fn an_address_that_could_carry_a_mail_header_is_refused() {
        for bad in [
            "ana",
            "@example.org",
            "ana@",
            "a@b\r\nBcc:x",
            "a b@example.org",
            "<a@b>",
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(
            Email::parse("Ana@Example.ORG").unwrap().as_str(),
            "Ana@example.org"
        );
        assert_eq!(Email::parse("").unwrap().as_str(), "");
    }

    #[test]
    fn addresses_that_differ_in_case_alone_are_compared_as_one() {
        let folded = |text: &str| Email::parse(text).unwrap().folded();
        assert_eq!(folded("Ana.Maria@Example.ORG"), "ana.maria@example.org");
        assert_eq!(folded("ΟΔΟΣ@example.org"), folded("οδος@example.org"));
        assert_eq!(
            folded("A\u{30a}sa@example.org"),
            folded("\u{e5}sa@example.org")
        );
        assert_eq!(folded("mi\u{212a}e@example.org"), "mike@example.org");
        assert_eq!(folded(""), "");
        let once = folded("\u{130}stanbul@example.org");
        assert_eq!(Email::fold(&once), once);
    }

    #[test]
    fn an_address_is_one_in_whichever_form_its_domain_is_written() {
        let both = ["ana@bücher.example", "Ana@XN--Bcher-KVA.example"];
        for typed in both {
            let email = Email::parse(typed).unwrap();
            assert_eq!(email.folded(), "ana@xn--bcher-kva.example");
            assert_eq!(email.folded_in_unicode(), "ana@bücher.example");
        }
        assert_eq!(
            Email::for_delivery("Zoë@BÜCHER.example"),
            "Zoë@xn--bcher-kva.example"
        );
    }

    #[test]
    fn what_others_have_stored_is_known_though_no_new_address_can_be_so() {
        for known in ["ana@exa_mple.org", "ana@[192.0.2.1]", "ana@xn--a.example"] {
            assert!(Email::parse(known).is_err(), "{known} is new");
            let email = Email::parse_known(known).unwrap();
            assert_eq!((email.as_str(), &*email.folded()), (known, known));
            assert_eq!(Email::for_delivery(known), known);
        }
        assert!(Email::parse("ana@example.org.").is_err());
    }

    #[test]
    fn addresses_of_which_two_people_may_have_one_each_stay_two() {
        let folded = |text: &str| Email::parse(text).unwrap().folded();
        for (one, other) in [
            ("stra\u{df}e@example.org", "strasse@example.org"),
            ("m\u{131}ke@example.org", "mike@example.org"),
            ("ana.maria@example.org", "anamaria@example.org"),
            ("ana+shop@example.org", "ana@example.org"),
            ("\u{fb01}n@example.org", "fin@example.org"),
        ] {
            assert_ne!(folded(one), folded(other), "{one} {other}");
        }
    }
}
