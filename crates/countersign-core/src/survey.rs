//! What stands in a users table that somebody else made, read row by row: who will be able to sign in,
//! and what will not work and why.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use crate::password::{EncodedPassword, Encoding};
use crate::user::{UserId, Username};

/// How many users a finding names.
const EXAMPLES: usize = 10;

/// A row of the users table, as it stands.
#[derive(Debug)]
pub struct SurveyedUser<'row> {
    /// The number.
    pub id: UserId,
    /// What the user signs in with.
    pub username: &'row str,
    /// The e-mail address; empty for none.
    pub email: &'row str,
    /// The stored password.
    pub password: EncodedPassword,
}

/// What has been seen of the rows so far.
#[derive(Debug, Default)]
pub struct Survey {
    users: u64,
    passwords: BTreeMap<String, PasswordCount>,
    unreadable: Examples,
    weak: Examples,
    not_normal: Examples,
    usernames: Doubles,
    emails: Doubles,
}

/// How many passwords are encoded in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PasswordCount {
    /// How many.
    pub users: u64,
    /// How many of them can be verified.
    pub verified: u64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Works, and deserves a look.
    Warning,
    /// Does not work.
    Problem,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable word for programs.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found and what to do, for people. Names nobody.
    pub message: String,
    /// How many users it is about.
    pub users: u64,
    /// The first few of them.
    pub examples: Vec<UserId>,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// How many users there are.
    pub users: u64,
    /// How their passwords are encoded, by Django's name for it; `unusable` for those without one.
    pub passwords: BTreeMap<String, PasswordCount>,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
}

impl Survey {
    /// Takes a row into account.
    pub fn note(&mut self, user: &SurveyedUser<'_>) {
        self.users += 1;
        self.note_password(user);
        let normal = Username::normalise(user.username);
        if normal != user.username {
            self.not_normal.add(user.id);
        }
        self.usernames.add(user.id, &normal.to_lowercase());
        if !user.email.is_empty() {
            let address = Username::normalise(user.email).to_lowercase();
            self.emails.add(user.id, &address);
        }
    }

    fn note_password(&mut self, user: &SurveyedUser<'_>) {
        let encoding = user.password.encoding();
        let label = match encoding {
            Some(encoding) => encoding.name(),
            None if user.password.is_unusable() => "unusable",
            None => label(user.password.as_str()),
        };
        let count = self.passwords.entry(label.to_owned()).or_default();
        count.users += 1;
        count.verified += u64::from(encoding.is_some());
        match encoding {
            None if !user.password.is_unusable() => self.unreadable.add(user.id),
            Some(Encoding::Md5) => self.weak.add(user.id),
            Some(_) | None => {}
        }
    }

    /// What has been found.
    pub fn finish(self) -> Surveyed {
        let found = [
            self.unreadable.finding(
                "password_not_verified",
                Severity::Problem,
                "users have a stored password of an encoding that is not verified, or that asks for \
                 more work than is bounded: whoever it is must set a new one",
            ),
            self.not_normal.finding(
                "username_not_normal",
                Severity::Problem,
                "users have a username that is not in Unicode's form NFKC, in which names are looked \
                 up, by Django too: give it another",
            ),
            self.usernames.examples.finding(
                "username_double",
                Severity::Warning,
                "users have a username that another has but for case or form: each signs in by their \
                 own, and is easily mistaken for the other",
            ),
            self.emails.examples.finding(
                "email_double",
                Severity::Warning,
                "users have an e-mail address that another has, too: what is sent there does not say \
                 who reads it",
            ),
            self.weak.finding(
                "password_weak",
                Severity::Warning,
                "users have a password stored as md5: it is replaced at the next sign-in; until then, \
                 whoever steals the table has it",
            ),
        ];
        Surveyed {
            users: self.users,
            passwords: self.passwords,
            findings: found.into_iter().flatten().collect(),
        }
    }
}

/// Encodings of older Djangos, which are told by name although they are not verified.
const OTHERS: [&str; 2] = ["sha1", "crypt"];

/// The name that begins an encoding, if it is a known one. Nothing else of what is stored is shown: it
/// may be somebody's password.
fn label(encoded: &str) -> &'static str {
    let name = encoded.split_once('$').map_or("", |(name, _)| name);
    let known = Encoding::ALL.map(Encoding::name).into_iter().chain(OTHERS);
    known
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("unknown")
}

/// Some users, of whom the first few are kept.
#[derive(Debug, Default)]
struct Examples {
    users: u64,
    first: Vec<UserId>,
}

impl Examples {
    fn add(&mut self, user: UserId) {
        self.users += 1;
        if self.first.len() < EXAMPLES {
            self.first.push(user);
        }
    }

    fn finding(self, code: &'static str, severity: Severity, what: &str) -> Option<Finding> {
        (self.users > 0).then(|| Finding {
            code,
            severity,
            message: what.to_owned(),
            users: self.users,
            examples: self.first,
        })
    }
}

/// Users who share something with one who came before. Of ten million texts as many hashes are kept.
#[derive(Debug, Default)]
struct Doubles {
    hasher: RandomState,
    /// Who was the first, and whether it is known that there is another.
    seen: HashMap<u64, (UserId, bool)>,
    examples: Examples,
}

impl Doubles {
    fn add(&mut self, user: UserId, text: &str) {
        let hash = self.hasher.hash_one(text);
        let Some((first, is_known)) = self.seen.get_mut(&hash) else {
            self.seen.insert(hash, (user, false));
            return;
        };
        if !*is_known {
            *is_known = true;
            self.examples.add(*first);
        }
        self.examples.add(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "pbkdf2_sha256$1000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn survey(rows: &[(&str, &str, &str)]) -> Surveyed {
        let mut survey = Survey::default();
        for (id, (username, email, password)) in (1..).zip(rows) {
            survey.note(&SurveyedUser {
                id: UserId(id),
                username,
                email,
                password: EncodedPassword::new(*password),
            });
        }
        survey.finish()
    }

    fn finding(surveyed: &Surveyed, code: &str) -> Option<(u64, Vec<i64>)> {
        let finding = surveyed
            .findings
            .iter()
            .find(|finding| finding.code == code);
        finding.map(|finding| {
            let ids = finding.examples.iter().map(|id| id.0).collect();
            (finding.users, ids)
        })
    }

    #[test]
    fn a_table_in_order_has_no_findings() {
        let surveyed = survey(&[
            ("ana", "ana@example.org", GOOD),
            ("ben", "", GOOD),
            ("cleo", "", "!abc"),
        ]);
        assert_eq!(surveyed.users, 3);
        assert_eq!(surveyed.findings, []);
        let two_verified = PasswordCount {
            users: 2,
            verified: 2,
        };
        assert_eq!(surveyed.passwords["pbkdf2_sha256"], two_verified);
        let one_without = PasswordCount {
            users: 1,
            verified: 0,
        };
        assert_eq!(surveyed.passwords["unusable"], one_without);
    }

    #[test]
    fn passwords_that_nobody_can_use_any_more_are_found() {
        let surveyed = survey(&[
            ("ana", "", "sha1$salt$0123"),
            ("ben", "", "pbkdf2_sha256$99999999999$salt$AAAA"),
            ("cleo", "", "hunter2"),
            ("dora", "", "hunter2$hunter2$hunter2"),
            ("emil", "", "md5$$3f86d0d3d465b7b458c231bf3555c0e3"),
            ("fred", "", GOOD),
        ]);
        assert_eq!(
            finding(&surveyed, "password_not_verified"),
            Some((5, vec![1, 2, 3, 4, 5]))
        );
        let labels: Vec<_> = surveyed.passwords.keys().map(String::as_str).collect();
        assert_eq!(labels, ["md5", "pbkdf2_sha256", "sha1", "unknown"]);
        let half_verified = PasswordCount {
            users: 2,
            verified: 1,
        };
        assert_eq!(surveyed.passwords["pbkdf2_sha256"], half_verified);
    }

    #[test]
    fn names_and_addresses_that_are_mistaken_for_each_other_are_found() {
        let surveyed = survey(&[
            ("ana", "ana@example.org", GOOD),
            ("ben", "ANA@example.org", GOOD),
            ("Ana", "", GOOD),
            ("ANA", "", GOOD),
            ("\u{212b}sa", "", GOOD),
            ("\u{c5}sa", "", GOOD),
        ]);
        assert_eq!(
            finding(&surveyed, "username_double"),
            Some((5, vec![1, 3, 4, 5, 6]))
        );
        assert_eq!(finding(&surveyed, "email_double"), Some((2, vec![1, 2])));
        assert_eq!(
            finding(&surveyed, "username_not_normal"),
            Some((1, vec![5]))
        );
    }

    #[test]
    fn a_finding_names_a_few_and_counts_all() {
        let rows: Vec<_> = (0..25)
            .map(|number| {
                (
                    format!("user{number}"),
                    "md5$salt$3f86d0d3d465b7b458c231bf3555c0e3",
                )
            })
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, password)| (name.as_str(), "", *password))
            .collect();
        let (users, examples) = finding(&survey(&rows), "password_weak").unwrap();
        assert_eq!((users, examples.len()), (25, EXAMPLES));
    }
}
