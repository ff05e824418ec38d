//! Which new passwords are accepted: one rule for every way to set one.
//!
//! After NIST SP 800-63B: length counts, composition does not; what is common, lies at hand or was found in a
//! breach is refused.

use std::sync::Arc;

use sha1::{Digest as _, Sha1};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization as _;

use super::breached::{BreachedPasswords, BreachedUnavailable};
use super::context::{self, Origin, Words};
use super::{common, strength};
use crate::password::Password;
use crate::user::User;
use crate::validation::{FieldError, ValidationError};

/// What a new password is held against.
#[derive(Debug, Clone, Copy, Default)]
pub struct PasswordOwner<'a> {
    /// The username.
    pub username: &'a str,
    /// The e-mail address; may be empty.
    pub email: &'a str,
    /// The given name; may be empty.
    pub first_name: &'a str,
    /// The family name; may be empty.
    pub last_name: &'a str,
    /// Whether the user is staff or a superuser, who need longer passwords.
    pub privileged: bool,
}

impl<'a> PasswordOwner<'a> {
    /// An existing user.
    pub fn of(user: &'a User) -> Self {
        Self {
            username: &user.username,
            email: &user.email,
            first_name: &user.first_name,
            last_name: &user.last_name,
            privileged: user.is_staff || user.is_superuser,
        }
    }
}

/// The rules for new passwords.
#[derive(Debug, Clone)]
pub struct PasswordPolicy {
    /// The fewest characters.
    pub min_length: usize,
    /// The fewest characters for staff and superusers.
    pub min_length_staff: usize,
    /// The least strength, from 0 to 4 as zxcvbn counts it; 0: any. With 2, a password takes more than a
    /// million guesses.
    pub min_strength: u8,
    /// Words that passwords here must not rely on, beside the user's own data and the names in the issuer's
    /// URL.
    pub context_words: Vec<String>,
    /// Passwords that are known from breaches.
    pub breached: Option<Arc<dyn BreachedPasswords>>,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self {
            min_length: 8,
            min_length_staff: 15,
            min_strength: 2,
            context_words: Vec::new(),
            breached: None,
        }
    }
}

/// Why a new password is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] ValidationError),
    /// Whether it is known from a breach cannot be told.
    #[error(transparent)]
    Unavailable(#[from] BreachedUnavailable),
}

/// Whom a new password is for, as it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    needed: usize,
    privileged: bool,
    words: Words,
}

impl PasswordPolicy {
    /// Adds the words in a URL's host name to those that passwords must not rely on.
    pub fn add_words_of_url(&mut self, url: &str) {
        self.context_words.extend(context::words_of_url(url));
    }

    /// Checks a new password. Takes some tenths of a millisecond, and may wait for the disk.
    ///
    /// # Errors
    /// [`PolicyError::Refused`] with a [`FieldError`] on `password` that says what would be accepted, or
    /// [`PolicyError::Unavailable`].
    pub fn check(&self, password: &Password, owner: PasswordOwner<'_>) -> Result<(), PolicyError> {
        self.judge(password, &self.subject(owner))
    }

    /// What of an owner a password is judged by.
    pub(crate) fn subject(&self, owner: PasswordOwner<'_>) -> Subject {
        let mut words = Words::default();
        let (local, domain) = owner.email.rsplit_once('@').unwrap_or((owner.email, ""));
        for own in [owner.username, local, owner.first_name, owner.last_name] {
            words.add(own, Origin::User);
        }
        for label in context::words_of_url(domain) {
            words.add(&label, Origin::User);
        }
        for word in &self.context_words {
            words.add(word, Origin::Service);
        }
        Subject {
            needed: if owner.privileged {
                self.min_length_staff
            } else {
                self.min_length
            },
            privileged: owner.privileged,
            words,
        }
    }

    pub(crate) fn judge(&self, password: &Password, subject: &Subject) -> Result<(), PolicyError> {
        // As it will be stored.
        let composed = password.composed();
        let text = composed.as_ref().unwrap_or(password).expose();
        if let Some((code, detail)) = self.refusal(text, subject) {
            return Err(ValidationError::from(FieldError::new("password", code, detail)).into());
        }
        let Some(breached) = &self.breached else {
            return Ok(());
        };
        if breached.contains(&Sha1::digest(text).into())? {
            let detail = "This password is known from a breach of another service. Choose another one, \
                          and change it wherever else you use it.";
            let refused = FieldError::new("password", "password_breached", detail);
            return Err(ValidationError::from(refused).into());
        }
        Ok(())
    }

    /// What is wrong with it, as a code and a sentence.
    fn refusal(&self, text: &str, subject: &Subject) -> Option<(&'static str, String)> {
        let Subject {
            needed,
            privileged,
            words,
        } = subject;
        // Code points, not bytes: a password in Greek is not twice as long.
        if text.chars().count() < *needed {
            let who = if *privileged { " for staff" } else { "" };
            let detail = format!("Use at least {needed} characters{who}.");
            return Some(("password_too_short", detail));
        }
        if common::is_common(text) {
            let detail = "This is one of the most common passwords, which are tried first. Three or four \
                          words that have nothing to do with each other make a good one.";
            return Some(("password_too_common", detail.to_owned()));
        }
        match words.relied_on_by(text) {
            Some(Origin::User) => {
                let detail = "This is little more than your name or e-mail address. Add something that has \
                              nothing to do with you.";
                return Some(("password_too_similar", detail.to_owned()));
            }
            Some(Origin::Service) => {
                let detail = "This is little more than the name of this service. Add something that has \
                              nothing to do with it.";
                return Some(("password_context", detail.to_owned()));
            }
            None => {}
        }
        let mut distinct: Vec<char> = text.nfkc().flat_map(char::to_lowercase).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < 4 {
            let detail = "Use more different characters.";
            return Some(("password_too_simple", detail.to_owned()));
        }
        if self.min_strength == 0 {
            return None;
        }
        let strength = strength::estimate(text, &words.texts());
        if strength.score >= self.min_strength {
            return None;
        }
        let weakness = strength.weakness.unwrap_or("This is soon guessed.");
        let detail = format!("{weakness} Add a word or two that do not go with it.");
        Some(("password_too_weak", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::breached::BreachedHash;

    fn owner(privileged: bool) -> PasswordOwner<'static> {
        PasswordOwner {
            username: "anamaria",
            email: "amaria@initech.example",
            first_name: "Ana",
            last_name: "Sørensen-Lund",
            privileged,
        }
    }

    fn check_by(policy: &PasswordPolicy, password: &str, privileged: bool) -> Result<(), String> {
        policy
            .check(
                &Password::new(password.to_owned()).unwrap(),
                owner(privileged),
            )
            .map_err(|error| match error {
                PolicyError::Refused(refused) => refused.0[0].code.to_owned(),
                PolicyError::Unavailable(_) => "unavailable".to_owned(),
            })
    }

    fn policy() -> PasswordPolicy {
        let mut policy = PasswordPolicy::default();
        policy.add_words_of_url("https://auth.hooli.example");
        policy.context_words.push("Pied Piper".to_owned());
        policy
    }

    fn check(password: &str, privileged: bool) -> Result<(), String> {
        check_by(&policy(), password, privileged)
    }

    fn refused(code: &str) -> Result<(), String> {
        Err(code.to_owned())
    }

    #[test]
    fn length_counts_in_characters_and_staff_need_more() {
        assert_eq!(check("kvitten", false), refused("password_too_short"));
        assert_eq!(check("kvittens", false), Ok(()));
        assert_eq!(check("κωδικός", false), refused("password_too_short"));
        // Seven when composed.
        let decomposed = "kvitta\u{30a}n";
        assert_eq!(check(decomposed, false), refused("password_too_short"));
        assert_eq!(check("kvittens-lang1", true), refused("password_too_short"));
        assert_eq!(check("kvittens-lang12", true), Ok(()));
    }

    #[test]
    fn composition_does_not_count() {
        for good in [
            "correct horse battery staple",
            "7305916482",
            "48201773659018264937",
            "73059164827305916482",
            "🦊🐢🐝🐙🦉🐬🐧🐌",
            "a b c d e f g h",
            "abkdpqrtzmxwvyh",
            "blue dog",
            "летоидет и зима",
        ] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
    }

    #[test]
    fn as_many_characters_as_fit_are_looked_at_and_accepted() {
        let text = "kQzv7Wm1Xp0Lr4Tj9Bn2Hs6Yc3Gd8Ff5".repeat(128);
        assert_eq!(text.len(), 4_096);
        assert_eq!(check(&text, true), Ok(()));
        let greek = "ανεμώνη και θάλασσα, ".repeat(97);
        assert!(greek.len() < 4_096 && greek.chars().count() > 2_000);
        assert_eq!(check(&greek, true), Ok(()));
    }

    #[test]
    fn every_common_password_of_the_length_is_refused() {
        for word in common::all() {
            assert_eq!(check(word, false), refused("password_too_common"), "{word}");
        }
        let long = common::all().filter(|word| word.chars().count() >= 15);
        for word in long {
            assert_eq!(check(word, true), refused("password_too_common"), "{word}");
        }
    }

    #[test]
    fn what_is_little_more_than_the_users_own_data_is_refused() {
        for similar in [
            "AnaMaria-2026",
            "xx-amaria-xx",
            "4n4m4r14!!",
            "S0rensen-lund",
            "s\u{f8}rensen99",
            "initech-2026",
            "lund lund lund",
            "ana.ana.ana.ana.ana",
        ] {
            let code = check(similar, false);
            let expected = if similar.starts_with("S0") {
                // Another letter than the one in the name.
                code.clone()
            } else {
                refused("password_too_similar")
            };
            assert_eq!(code, expected, "{similar}");
        }
        assert_eq!(check("amaria likes kvittens", false), Ok(()));
    }

    #[test]
    fn what_is_little_more_than_the_services_name_is_refused() {
        for word in [
            "hooli-2026",
            "H00L1h00l1-hooli",
            "hooli123456789012",
            "pied-piper-1",
            "P13dP1p3r!",
        ] {
            assert_eq!(check(word, false), refused("password_context"), "{word}");
        }
        assert_eq!(check("hooli has kvittens", false), Ok(()));
    }

    #[test]
    fn what_is_soon_guessed_is_refused_as_far_as_the_setting_goes() {
        assert_eq!(
            check("aaaaaaaaaaaaaaaa", true),
            refused("password_too_simple")
        );
        for weak in ["P@ssw0rd2026", "sommer2026", "wombat99", "20041990x"] {
            assert_eq!(check(weak, false), refused("password_too_weak"), "{weak}");
            let any = PasswordPolicy {
                min_strength: 0,
                ..policy()
            };
            assert_eq!(check_by(&any, weak, false), Ok(()), "{weak}");
        }
        let strict = PasswordPolicy {
            min_strength: 4,
            ..policy()
        };
        assert_eq!(
            check_by(&strict, "blue dog", false),
            refused("password_too_weak")
        );
    }

    #[test]
    fn a_refusal_says_what_would_be_accepted() {
        let detail = |password: &str, privileged| {
            let password = Password::new(password.to_owned()).unwrap();
            match policy().check(&password, owner(privileged)) {
                Err(PolicyError::Refused(refused)) => refused.0[0].detail.to_string(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            detail("short", true),
            "Use at least 15 characters for staff."
        );
        assert!(detail("password", false).contains("Three or four words"));
        assert!(detail("anamaria99", false).contains("nothing to do with you"));
        assert!(detail("hooli-2026", false).contains("nothing to do with it"));
        assert_eq!(
            detail("sommer2026", false),
            "It is close to one that many people use; other signs for letters do not help. Add a word \
             or two that do not go with it."
        );
    }

    #[derive(Debug)]
    struct Listed(Result<BreachedHash, BreachedUnavailable>);

    impl BreachedPasswords for Listed {
        fn contains(&self, hash: &BreachedHash) -> Result<bool, BreachedUnavailable> {
            self.0.clone().map(|listed| listed == *hash)
        }
    }

    #[test]
    fn a_breached_password_is_refused_and_none_is_accepted_while_that_is_not_known() {
        let listed = |listed| PasswordPolicy {
            breached: Some(Arc::new(Listed(listed))),
            ..policy()
        };
        // As it is stored, whichever way it was typed.
        let hash = Sha1::digest("kvitt\u{e5}ns-lang").into();
        for typed in ["kvitt\u{e5}ns-lang", "kvitta\u{30a}ns-lang"] {
            assert_eq!(
                check_by(&listed(Ok(hash)), typed, false),
                refused("password_breached")
            );
        }
        assert_eq!(check_by(&listed(Ok(hash)), "kvittans-lang", false), Ok(()));
        let away = Err(BreachedUnavailable("the disk is gone".to_owned()));
        assert_eq!(
            check_by(&listed(away), "kvittans-lang", false),
            refused("unavailable")
        );
    }
}
