//! Which new passwords are accepted.
//!
//! After NIST SP 800-63B: length counts, composition does not; what resembles the user's own data is
//! refused.

use crate::password::Password;
use crate::user::User;
use crate::validation::{FieldError, ValidationError};

/// What a new password is held against.
#[derive(Debug, Clone, Copy)]
pub struct PasswordOwner<'a> {
    /// The username.
    pub username: &'a str,
    /// The e-mail address; may be empty.
    pub email: &'a str,
    /// Whether the user is staff or a superuser, who need longer passwords.
    pub privileged: bool,
}

impl<'a> PasswordOwner<'a> {
    /// An existing user.
    pub fn of(user: &'a User) -> Self {
        Self {
            username: &user.username,
            email: &user.email,
            privileged: user.is_staff || user.is_superuser,
        }
    }
}

/// The rules for new passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// The fewest characters.
    pub min_length: usize,
    /// The fewest characters for staff and superusers.
    pub min_length_staff: usize,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self {
            min_length: 8,
            min_length_staff: 15,
        }
    }
}

impl PasswordPolicy {
    /// Checks a new password.
    ///
    /// # Errors
    /// A [`FieldError`] on `password` that says what would be accepted.
    pub fn check(
        &self,
        password: &Password,
        owner: PasswordOwner<'_>,
    ) -> Result<(), ValidationError> {
        let needed = if owner.privileged {
            self.min_length_staff
        } else {
            self.min_length
        };
        let refuse = |code, detail: String| Err(FieldError::new("password", code, detail).into());
        // Code points, not bytes: a password in Greek is not twice as long.
        if password.expose().chars().count() < needed {
            let who = if owner.privileged { " for staff" } else { "" };
            return refuse(
                "password_too_short",
                format!("Use at least {needed} characters{who}."),
            );
        }
        let lowered = password.expose().to_lowercase();
        if owns(&lowered, owner.username)
            || owns(&lowered, owner.email.split('@').next().unwrap_or(""))
        {
            let detail = "Choose something that does not contain your username or e-mail address.";
            return refuse("password_too_similar", detail.to_owned());
        }
        let mut distinct: Vec<char> = lowered.chars().collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < 4 {
            let detail = "Use more different characters.";
            return refuse("password_too_simple", detail.to_owned());
        }
        Ok(())
    }
}

/// Whether the password is little more than something the user is known by.
fn owns(password: &str, known: &str) -> bool {
    let known = known.to_lowercase();
    known.chars().count() >= 4 && password.contains(&known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str, privileged: bool) -> Result<(), String> {
        let owner = PasswordOwner {
            username: "anamaria",
            email: "amaria@example.org",
            privileged,
        };
        PasswordPolicy::default()
            .check(&Password::new(password.to_owned()).unwrap(), owner)
            .map_err(|error| error.0[0].code.to_owned())
    }

    #[test]
    fn length_counts_in_characters_and_staff_need_more() {
        assert_eq!(
            check("kvitten", false),
            Err("password_too_short".to_owned())
        );
        assert_eq!(check("kvittens", false), Ok(()));
        assert_eq!(
            check("κωδικός", false),
            Err("password_too_short".to_owned())
        );
        assert_eq!(
            check("kvittens-lang1", true),
            Err("password_too_short".to_owned())
        );
        assert_eq!(check("kvittens-lang12", true), Ok(()));
    }

    #[test]
    fn composition_does_not_count() {
        assert_eq!(check("correct horse battery staple", false), Ok(()));
        assert_eq!(check("7305916482", false), Ok(()));
        assert_eq!(check("🦊🐢🐝🐙🦉🐬🐧🐌", false), Ok(()));
    }

    #[test]
    fn what_resembles_the_user_is_refused() {
        assert_eq!(
            check("AnaMaria-2026", false),
            Err("password_too_similar".to_owned())
        );
        assert_eq!(
            check("xx-amaria-xx", false),
            Err("password_too_similar".to_owned())
        );
        assert_eq!(
            check("aaaaaaaaaaaaaaaa", true),
            Err("password_too_simple".to_owned())
        );
    }
}
