//! `[password]`: which new passwords are accepted and what a hash costs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use countersign_core::auth::MailedTokenSettings;
use countersign_core::password::{
    Argon2Cost, BreachedPasswords, Encoding, HashingSettings, PasswordPolicy, WriteAs,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::durations;
use super::problems::Problems;
use super::registration;
use super::server::ServerSettings;
use crate::breached::BreachedFile;

/// Which new passwords are accepted and what a hash costs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PasswordSection {
    /// The fewest characters of a new password, from 8 to 64. Default: 8.
    min_length: u64,
    /// The fewest characters for staff and superusers, from `password.min_length` to 64.
    /// Default: 15.
    min_length_staff: u64,
    /// How hard a new password must be to guess, from 0 to 4 as zxcvbn counts: with 2 it takes more than
    /// a million guesses; 0 asks for nothing. Which characters it has does not count. Default: 2.
    min_strength: u8,
    /// Words that passwords here must not rely on, such as the names of the company and its products,
    /// beside the user's own data and the names in `server.public_url` and `tokens.issuer`. Default: none.
    context_words: Vec<String>,
    /// A file of passwords that are known from breaches, none of which is accepted: their SHA-1 in hex,
    /// one a line, ordered by hash. Default: none.
    breached_file: Option<PathBuf>,
    /// How new passwords are encoded: `argon2`, or `pbkdf2_sha256` where a Django shares the users and
    /// has no argon2 installed. With `argon2` all stored passwords are brought to it at the next login;
    /// with `pbkdf2_sha256` only weaker ones are. Default: `argon2`.
    write_as: String,
    /// How many iterations a new `pbkdf2_sha256` hash has, from 600000 to 5000000; the number that the
    /// Django beside it has, or each brings the other's to its own. Default: 1500000, Django 6.1's.
    pbkdf2_iterations: u32,
    argon2: Argon2Section,
    /// How many passwords are hashed at once. Default: the number of cores.
    hashing_threads: Option<u64>,
    /// How many more may wait; beyond them the answer is 503. Default: 32 for each thread.
    hashing_queue: Option<u64>,
    /// The page of your app that the links of letters lead to that set a new password. It finds the token
    /// behind `#token=` and shows it to `POST /users/password/reset/confirm`. Default:
    /// `/account/reset-password` of this service.
    reset_page: Option<String>,
    /// How long a link works that sets a new password, from `15m` to `24h`. Default: `1h`.
    reset_lifetime: String,
}

/// What one Argon2id hash costs (RFC 9106). Stored hashes are brought to it at the next login.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Argon2Section {
    /// The memory of one hash: a text with its unit, like `19MiB` or `19456KiB`, or a number of
    /// KiB. At least `7MiB`. Default: `19MiB`.
    memory: Memory,
    /// How often the memory is passed over. Default: 2.
    passes: u64,
    /// How many lanes the memory has; one thread computes them all. Default: 1.
    lanes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(schema_with = "memory_schema")]
enum Memory {
    Text(String),
    Kibibytes(u64),
}

fn memory_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["string", "integer"] })
}

impl Default for PasswordSection {
    fn default() -> Self {
        let policy = PasswordPolicy::default();
        Self {
            min_length: policy.min_length as u64,
            min_length_staff: policy.min_length_staff as u64,
            min_strength: policy.min_strength,
            context_words: policy.context_words,
            breached_file: None,
            write_as: Encoding::Argon2.name().to_owned(),
            pbkdf2_iterations: WriteAs::DJANGOS_ITERATIONS,
            argon2: Argon2Section::default(),
            hashing_threads: None,
            hashing_queue: None,
            reset_page: None,
            reset_lifetime: durations::show(MailedTokenSettings::default().reset_lifetime),
        }
    }
}

impl Default for Argon2Section {
    fn default() -> Self {
        let cost = Argon2Cost::default();
        Self {
            memory: Memory::Text(format!("{}MiB", cost.memory_kib / 1024)),
            passes: cost.passes.into(),
            lanes: cost.lanes.into(),
        }
    }
}

/// NIST SP 800-63B's least, and the length that every verifier must permit.
const LENGTHS: std::ops::RangeInclusive<u64> = 8..=64;
/// zxcvbn's highest score.
const STRONGEST: u8 = 4;
/// A user's own words have room beside so many.
const MOST_WORDS: usize = 32;
const LEAST_WORD: usize = 3;
const LONGEST_WORD: usize = 100;
const LEAST_MEMORY_KIB: u32 = 7 * 1024;
const MOST_THREADS: u64 = 256;
const MOST_WAITING: u64 = 100_000;

impl PasswordSection {
    pub(crate) fn check_policy(&self, public_url: &str, problems: &mut Problems) -> PasswordPolicy {
        if !LENGTHS.contains(&self.min_length) {
            problems.add(
                "password.min_length",
                "write a number of characters from 8 to 64",
            );
        }
        if !LENGTHS.contains(&self.min_length_staff) || self.min_length_staff < self.min_length {
            let message = "write a number of characters from password.min_length to 64";
            problems.add("password.min_length_staff", message);
        }
        if self.min_strength > STRONGEST {
            problems.add("password.min_strength", "write a number from 0 to 4");
        }
        self.check_context_words(problems);
        let length = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
        let mut policy = PasswordPolicy {
            min_length: length(self.min_length),
            min_length_staff: length(self.min_length_staff),
            min_strength: self.min_strength,
            context_words: self.context_words.clone(),
            breached: self.open_breached(problems),
        };
        policy.add_words_of_url(public_url);
        policy
    }

    fn check_context_words(&self, problems: &mut Problems) {
        let is_word = |word: &String| (LEAST_WORD..=LONGEST_WORD).contains(&word.chars().count());
        if self.context_words.len() > MOST_WORDS || !self.context_words.iter().all(is_word) {
            let message = "write at most 32 words, each of 3 to 100 characters";
            problems.add("password.context_words", message);
        }
    }

    fn open_breached(&self, problems: &mut Problems) -> Option<Arc<dyn BreachedPasswords>> {
        match BreachedFile::open(self.breached_file.as_deref()?) {
            Ok(file) => Some(Arc::new(file)),
            Err(why) => {
                problems.add("password.breached_file", why);
                None
            }
        }
    }

    pub(crate) fn check_hashing(&self, problems: &mut Problems) -> HashingSettings {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = self.hashing_threads.unwrap_or(cores as u64);
        if !(1..=MOST_THREADS).contains(&threads) {
            problems.add("password.hashing_threads", "write a number from 1 to 256");
        }
        let queue = self.hashing_queue.unwrap_or(32 * threads.min(MOST_THREADS));
        if queue > MOST_WAITING {
            problems.add("password.hashing_queue", "write a number from 0 to 100000");
        }
        let cost = self.argon2.check(problems);
        let needed_kib = threads.saturating_mul(cost.memory_kib.into());
        if let Some(kib) = memory_of_the_machine_kib().filter(|kib| needed_kib > kib / 2) {
            problems.add(
                "password.argon2.memory",
                format!(
                    "{threads} threads (password.hashing_threads) would take {} MiB, more than half \
                     of this machine's {} MiB: use less memory or fewer threads",
                    needed_kib / 1024,
                    kib / 1024
                ),
            );
        }
        HashingSettings {
            write_as: self.check_write_as(problems),
            cost,
            threads: usize::try_from(threads).unwrap_or(1),
            queue: usize::try_from(queue).unwrap_or(0),
        }
    }
}

impl PasswordSection {
    pub(crate) fn check_reset_lifetime(&self, problems: &mut Problems) -> Duration {
        registration::check_reset_lifetime(&self.reset_lifetime, problems)
    }

    pub(crate) fn check_reset_page(
        &self,
        server: &ServerSettings,
        problems: &mut Problems,
    ) -> Option<Url> {
        let page = self.reset_page.as_deref();
        registration::check_page("password.reset_page", page, server, problems)
    }
}

impl PasswordSection {
    fn check_write_as(&self, problems: &mut Problems) -> WriteAs {
        let iterations = self.pbkdf2_iterations;
        if !(WriteAs::LEAST_ITERATIONS..=WriteAs::MOST_ITERATIONS).contains(&iterations) {
            let message = format!(
                "write a number from {} (OWASP's least) to {}",
                WriteAs::LEAST_ITERATIONS,
                WriteAs::MOST_ITERATIONS
            );
            problems.add("password.pbkdf2_iterations", message);
        }
        match self.write_as.as_str() {
            "argon2" => WriteAs::Argon2,
            "pbkdf2_sha256" => WriteAs::Pbkdf2Sha256 { iterations },
            _ => {
                problems.add("password.write_as", "write argon2 or pbkdf2_sha256");
                WriteAs::Argon2
            }
        }
    }
}

impl Argon2Section {
    fn check(&self, problems: &mut Problems) -> Argon2Cost {
        let memory = self.memory.kibibytes();
        if memory.is_none() {
            let message = "write memory with its unit, like 19MiB, or a number of KiB";
            problems.add("password.argon2.memory", message);
            return Argon2Cost::default();
        }
        let number = |number: Option<u64>| {
            number
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(u32::MAX)
        };
        let cost = Argon2Cost {
            memory_kib: number(memory),
            passes: number(Some(self.passes)),
            lanes: number(Some(self.lanes)),
        };
        if cost.memory_kib < LEAST_MEMORY_KIB {
            let message = "passwords hashed with so little memory are quick to guess: use 7MiB or \
                           more, 19MiB is advised";
            problems.add("password.argon2.memory", message);
        } else if cost.kib_passes() < Argon2Cost::FLOOR_KIB_PASSES {
            let needed = Argon2Cost::FLOOR_KIB_PASSES.div_ceil(cost.memory_kib.into());
            let message = format!(
                "passwords hashed so cheaply are quick to guess: with this memory make at least \
                 {needed} passes (OWASP's least)"
            );
            problems.add("password.argon2.passes", message);
        } else if !cost.is_bounded() {
            let message = format!(
                "one hash may take at most {} MiB, {} MiB over all passes, and 1 to {} lanes",
                Argon2Cost::MAX_MEMORY_KIB / 1024,
                Argon2Cost::MAX_KIB_PASSES / 1024,
                Argon2Cost::MAX_LANES
            );
            problems.add("password.argon2", message);
        } else {
            return cost;
        }
        // What follows from the memory is checked against memory that is not refused already.
        Argon2Cost::default()
    }
}

impl Memory {
    fn kibibytes(&self) -> Option<u64> {
        let text = match self {
            Self::Kibibytes(number) => return Some(*number),
            Self::Text(text) => text.trim(),
        };
        let digits = text
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim_start() {
            "KiB" => 1,
            "MiB" => 1024,
            "GiB" => 1024 * 1024,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor)
    }
}

/// The machine's memory, or the container's share of it if that is less. None where neither is
/// told.
fn memory_of_the_machine_kib() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let container = read("/sys/fs/cgroup/memory.max")
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map(|bytes| bytes / 1024);
    machine.into_iter().chain(container).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_with_its_unit() {
        let kibibytes = |text: &str| Memory::Text(text.to_owned()).kibibytes();
        assert_eq!(kibibytes("19MiB"), Some(19_456));
        assert_eq!(kibibytes("19 MiB"), Some(19_456));
        assert_eq!(kibibytes("19456KiB"), Some(19_456));
        assert_eq!(kibibytes("1GiB"), Some(1_048_576));
        assert_eq!(Memory::Kibibytes(19_456).kibibytes(), Some(19_456));
        for bad in ["", "19", "19MB", "MiB", "-1MiB", "99999999999999999999GiB"] {
            assert_eq!(kibibytes(bad), None, "{bad:?}");
        }
    }
}
