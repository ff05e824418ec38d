//! Passwords: hashed with Argon2id (RFC 9106) on a bounded pool, stored in Django's encoding; those that
//! Django stored before, in whichever of its encodings, are verified and brought up to date.
//!
//! A hash takes about 20 ms of one core and 19 MiB. So that logins never starve other requests, all
//! hashing happens on a few threads of its own, each of which keeps its memory from one hash to the
//! next; beyond a bounded queue the answer is [`Overloaded`].

mod breached;
mod common;
mod context;
mod django;
mod pace;
mod policy;
mod pool;
mod strength;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio::sync::oneshot;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::Zeroizing;

use crate::clock::{Clock, Randomness};
use crate::validation::{FieldError, ValidationError};

pub use self::breached::{BreachedHash, BreachedPasswords, BreachedUnavailable};
pub use self::django::{Argon2Cost, EncodedPassword, Encoding};
use self::django::{Argon2Memory, HASH_BYTES, NewHash, SALT_BYTES, StoredHash};
use self::pace::Pace;
use self::policy::Subject;
pub use self::policy::{PasswordOwner, PasswordPolicy, PolicyError};
use self::pool::{Full, Job, Pool};

/// The most bytes a password may have. More is refused before any hashing.
pub const MAX_PASSWORD_BYTES: usize = 4_096;

/// A password as someone typed it, exactly as received: nothing is trimmed, cut or folded. `Debug` shows nothing; the memory is wiped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes what was typed.
    ///
    /// # Errors
    /// A [`FieldError`] on `password` if it is empty or longer than [`MAX_PASSWORD_BYTES`].
    pub fn new(text: String) -> Result<Self, ValidationError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(FieldError::new("password", "required", "Enter a password.").into());
        }
        if text.len() > MAX_PASSWORD_BYTES {
            let detail = format!("Use at most {MAX_PASSWORD_BYTES} bytes.");
            return Err(FieldError::new("password", "too_long", detail).into());
        }
        Ok(Self(text))
    }

    /// Whether the other is the same, to the letter. Constant time.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    /// The same in NFC (NIST SP 800-63B, RFC 8265), in which new passwords are stored: on one keyboard an
    /// `å` is one character, on another two. `None`: it is in NFC.
    fn composed(&self) -> Option<Self> {
        if is_nfc(&self.0) {
            return None;
        }
        // No text grows by more in NFC; a copy that was outgrown would not be wiped.
        let mut composed = Zeroizing::new(String::with_capacity(3 * self.0.len()));
        composed.extend(self.0.nfc());
        Some(Self(composed))
    }

    fn expose(&self) -> &str {
        &self.0
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(redacted)")
    }
}

/// Whether a password matches a stored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does not.
    Wrong,
    /// It does.
    Right,
    /// It does, and here is the hash by today's cost to store in place of the old one.
    RightAndUpgraded(EncodedPassword),
}

/// More is being hashed than the queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many passwords are being checked")]
pub struct Overloaded {
    /// When to come again: the time that the queue takes to empty, about.
    pub retry_after: Duration,
}

/// How new passwords are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAs {
    /// As `argon2`: Argon2id at the cost of the settings.
    Argon2,
    /// As `pbkdf2_sha256`, for sites whose Django has no argon2 installed.
    Pbkdf2Sha256 {
        /// How often the hash function is applied; at least [`Self::LEAST_ITERATIONS`].
        iterations: u32,
    },
}

impl WriteAs {
    /// The least that OWASP's password storage cheat sheet accepts for PBKDF2 with SHA-256.
    pub const LEAST_ITERATIONS: u32 = 600_000;
    /// The default of Django 6.1, the newest there is.
    pub const DJANGOS_ITERATIONS: u32 = 1_500_000;
    /// The most that is verified, and so the most that may be written.
    pub const MOST_ITERATIONS: u32 = django::MOST_ITERATIONS;
}

/// How much hashing is done at a time, and what one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashingSettings {
    /// How new passwords are encoded.
    pub write_as: WriteAs,
    /// What new Argon2id hashes cost.
    pub cost: Argon2Cost,
    /// How many hashes are computed at once.
    pub threads: usize,
    /// How many wait beyond those.
    pub queue: usize,
}

impl HashingSettings {
    /// The least that works, for tests that are about something else.
    #[cfg(any(test, feature = "testing"))]
    pub const CHEAP: Self = Self {
        write_as: WriteAs::Argon2,
        cost: Argon2Cost {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        },
        threads: 2,
        queue: 64,
    };
}

/// Hashes and checks passwords. Dropping it ends its threads.
pub struct PasswordHasher {
    pool: Pool,
    settings: HashingSettings,
    dummy: StoredHash,
    pace: Arc<Pace>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

/// Whether it was the password, and the uptime at which a thread began to find out.
struct Checked {
    verdict: Verdict,
    began: Duration,
}

impl PasswordHasher {
    /// Starts the threads. They take memory at their first hash.
    pub fn start(
        settings: HashingSettings,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        let new = NewHash::new(&settings, random::<SALT_BYTES>(&*randomness).to_vec());
        let dummy = new.dummy(random::<HASH_BYTES>(&*randomness));
        Self {
            pool: Pool::start(settings.threads, &Argon2Memory::keeping(settings.cost)),
            pace: Arc::new(Pace::new(dummy.cost())),
            settings,
            dummy,
            clock,
            randomness,
        }
    }

    /// How many of the threads hash now, and how many passwords wait for one.
    pub(crate) fn load(&self) -> (usize, usize) {
        let load = self.pool.load();
        (load.busy, load.waiting)
    }

    /// Measures how long checking takes for each encoding among these stored passwords, on the hashing
    /// threads and without being waited for. Until that is known, [`Verdict::Wrong`] takes as long as
    /// it ever may.
    pub fn learn(&self, stored: &[EncodedPassword]) {
        let stored: Vec<_> = stored.iter().filter_map(StoredHash::parse).collect();
        let costs = stored.iter().map(|stored| (stored.cost(), stored));
        let mut to_measure = self.pace.to_measure(costs);
        if to_measure.is_empty() {
            return;
        }
        to_measure.insert(self.dummy.cost(), &self.dummy);
        for cost in to_measure.keys() {
            self.pace.expect(*cost);
        }
        // Nobody's, so it does not matter what comes of it.
        let password = random::<SALT_BYTES>(&*self.randomness);
        for stored in to_measure.into_values() {
            let stored = stored.clone();
            let (pace, clock) = (Arc::clone(&self.pace), Arc::clone(&self.clock));
            let measuring: Job = Box::new(move |memory| {
                let (_, _, took) = timed(&*clock, || stored.matches(&password, memory));
                pace.note(stored.cost(), took);
            });
            // One for each encoding at most: the queue's bound is not for them.
            let _there_is_room = self.pool.push(measuring, usize::MAX);
        }
    }

    /// Checks a password against a stored one, or, where there is none, against a dummy that never
    /// matches. [`Verdict::Wrong`] takes the same time in either case, however the stored one is
    /// encoded: as long as the slowest check that is known, a second at most.
    ///
    /// Checked is what was typed and, if that is wrong and not in NFC, its NFC. Both are then checked for
    /// whomever there is or is not, and the answer takes twice as long.
    ///
    /// # Errors
    /// [`Overloaded`] if the queue is full.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<EncodedPassword>,
    ) -> Result<Verdict, Overloaded> {
        let stored = stored.as_ref().and_then(StoredHash::parse);
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy.clone());
        let upgrade = stored.is_outdated(&self.settings).then(|| self.new_hash());
        let composed = password.composed();
        let checks = if composed.is_some() { 2 } else { 1 };
        let (pace, clock) = (Arc::clone(&self.pace), Arc::clone(&self.clock));
        let checked = self
            .run(move |memory| {
                let (matches, began, took) =
                    timed(&*clock, || stored.matches(password.bytes(), memory));
                pace.note(stored.cost(), took);
                let right = if matches {
                    Some(password)
                } else {
                    composed.filter(|composed| stored.matches(composed.bytes(), memory))
                };
                let verdict = match (right.filter(|_| known), upgrade) {
                    (None, _) => Verdict::Wrong,
                    // As it was right: a Django beside us checks to the letter.
                    (Some(right), Some(new)) => {
                        Verdict::RightAndUpgraded(new.of(right.bytes(), memory))
                    }
                    (Some(_), None) => Verdict::Right,
                };
                Checked { verdict, began }
            })
            .await?;
        if checked.verdict == Verdict::Wrong {
            let passed = self.clock.uptime().saturating_sub(checked.began);
            let floor = self.pace.floor() * checks;
            tokio::time::sleep(floor.saturating_sub(passed)).await;
        }
        Ok(checked.verdict)
    }

    /// Hashes a new password by today's settings, in NFC.
    ///
    /// # Errors
    /// [`Overloaded`] if the queue is full.
    pub async fn hash(&self, password: Password) -> Result<EncodedPassword, Overloaded> {
        let new = self.new_hash();
        let password = password.composed().unwrap_or(password);
        self.run(move |memory| new.of(password.bytes(), memory))
            .await
    }

    /// Judges a new password by a policy on a hashing thread: the strength of some takes as long as a few
    /// hashes, and a list of breached ones is read from a disk.
    pub(crate) async fn judge(
        &self,
        policy: PasswordPolicy,
        password: Password,
        subject: Subject,
    ) -> Result<Result<(), PolicyError>, Overloaded> {
        self.run(move |_| policy.judge(&password, &subject)).await
    }

    /// How long a refusal is held back now.
    #[cfg(test)]
    pub(crate) fn floor(&self) -> Duration {
        self.pace.floor()
    }

    fn new_hash(&self) -> NewHash {
        let salt = random::<SALT_BYTES>(&*self.randomness);
        NewHash::new(&self.settings, salt.to_vec())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Argon2Memory) -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |memory| {
            // Whoever asked may have gone: then the work is not done at all.
            if !reply.is_closed() {
                let _gone = reply.send(work(memory));
            }
        });
        // About 20 ms a hash: half a queue is a fair guess at the wait.
        let retry_after = Duration::from_secs(1);
        self.pool
            .push(job, self.settings.queue)
            .map_err(|Full| Overloaded { retry_after })?;
        answer.await.map_err(|_| Overloaded { retry_after })
    }
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PasswordHasher")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What work gave, the uptime at which it began, and how long it took.
fn timed<T>(clock: &dyn Clock, work: impl FnOnce() -> T) -> (T, Duration, Duration) {
    let began = clock.uptime();
    let outcome = work();
    (outcome, began, clock.uptime().saturating_sub(began))
}

/// Whether a password matches a stored one, for those who look for stored ones that do harm. `None`: it is
/// in no encoding that we know, asks for more than is ever computed, or for more than `most_work` passes
/// over its memory or applications of its function.
#[cfg(any(test, feature = "testing"))]
pub fn matches_cheaply(
    password: &Password,
    stored: &EncodedPassword,
    most_work: u64,
) -> Option<bool> {
    let stored = StoredHash::parse(stored)?;
    let mut memory = Argon2Memory::keeping(HashingSettings::CHEAP.cost);
    (stored.cost().work <= most_work).then(|| stored.matches(password.bytes(), &mut memory))
}

fn random<const LENGTH: usize>(randomness: &dyn Randomness) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    randomness.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
