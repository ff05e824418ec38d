//! Passwords: hashed with Argon2id (RFC 9106) on a bounded pool, stored in Django's encoding.
//!
//! A hash takes about 20 ms of one core and 19 MiB. So that logins never starve other requests, all
//! hashing happens on a few threads of its own, each of which keeps its memory from one hash to the
//! next; beyond a bounded queue the answer is [`Overloaded`].

mod django;
mod policy;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Version};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::clock::Randomness;
use crate::validation::{FieldError, ValidationError};

use self::django::Argon2Hash;
pub use self::django::{Argon2Cost, EncodedPassword};
pub use self::policy::{PasswordOwner, PasswordPolicy};

/// The most bytes a password may have. More is refused before any hashing.
pub const MAX_PASSWORD_BYTES: usize = 4_096;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A password as someone typed it, exactly as received. `Debug` shows nothing; the memory is wiped.
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

    fn expose(&self) -> &str {
        &self.0
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

/// How much hashing is done at a time, and what one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashingSettings {
    /// What new hashes cost.
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
        cost: Argon2Cost {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        },
        threads: 2,
        queue: 64,
    };
}

/// The pool that hashes and checks passwords. Dropping it ends its threads.
pub struct PasswordHasher {
    queue: Arc<Queue>,
    cost: Argon2Cost,
    queue_length: usize,
    dummy: EncodedPassword,
    randomness: Arc<dyn Randomness>,
}

impl PasswordHasher {
    /// Starts the threads. They take memory at their first hash.
    pub fn start(settings: HashingSettings, randomness: Arc<dyn Randomness>) -> Self {
        let queue = Arc::new(Queue::default());
        for index in 0..settings.threads.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("password-{index}"))
                .spawn(move || Worker { memory: Vec::new() }.run(&queue))
                .expect("the system has room for the hashing threads at start");
        }
        // Nothing hashes to random bytes: checking against this costs what checking a real one
        // does, and never succeeds.
        let dummy = Argon2Hash {
            algorithm: Algorithm::Argon2id,
            cost: settings.cost,
            salt: random(&*randomness, SALT_BYTES),
            hash: Zeroizing::new(random(&*randomness, HASH_BYTES)),
        }
        .encode();
        Self {
            queue,
            cost: settings.cost,
            queue_length: settings.queue,
            dummy,
            randomness,
        }
    }

    /// Checks a password against a stored one, or, where there is none, against a dummy that takes
    /// as long and never matches.
    ///
    /// # Errors
    /// [`Overloaded`] if the queue is full.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<EncodedPassword>,
    ) -> Result<Verdict, Overloaded> {
        let stored = stored.as_ref().and_then(Argon2Hash::parse);
        let known = stored.is_some();
        let stored = match stored {
            Some(hash) => hash,
            None => Argon2Hash::parse(&self.dummy).expect("the dummy is in our own encoding"),
        };
        let upgrade = (stored.algorithm != Algorithm::Argon2id || stored.cost != self.cost)
            .then(|| self.blank());
        let verdict = self
            .run(move |worker| {
                if !worker.matches(&stored, &password) || !known {
                    return Verdict::Wrong;
                }
                match upgrade {
                    Some(blank) => Verdict::RightAndUpgraded(worker.fill(blank, &password)),
                    None => Verdict::Right,
                }
            })
            .await?;
        Ok(verdict)
    }

    /// Hashes a new password by today's cost.
    ///
    /// # Errors
    /// [`Overloaded`] if the queue is full.
    pub async fn hash(&self, password: Password) -> Result<EncodedPassword, Overloaded> {
        let blank = self.blank();
        self.run(move |worker| worker.fill(blank, &password)).await
    }

    /// A hash of today's cost with a fresh salt, still to be computed.
    fn blank(&self) -> Argon2Hash {
        Argon2Hash {
            algorithm: Algorithm::Argon2id,
            cost: self.cost,
            salt: random(&*self.randomness, SALT_BYTES),
            hash: Zeroizing::new(vec![0; HASH_BYTES]),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            // Whoever asked may have gone: then the work is not done at all.
            if !reply.is_closed() {
                let _gone = reply.send(work(worker));
            }
        });
        // About 20 ms a hash: half a queue is a fair guess at the wait.
        let retry_after = Duration::from_secs(1);
        self.queue
            .push(job, self.queue_length)
            .map_err(|Full| Overloaded { retry_after })?;
        answer.await.map_err(|_| Overloaded { retry_after })
    }
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PasswordHasher")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl Drop for PasswordHasher {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn random(randomness: &dyn Randomness, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    randomness.fill(&mut bytes);
    bytes
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

struct Full;

/// Jobs that wait for a thread.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    arrived: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Job>,
    idle_workers: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Jobs run outside the lock, so a panic in one leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job, most_waiting: usize) -> Result<(), Full> {
        let mut state = self.lock();
        if state.waiting.len() >= most_waiting + state.idle_workers {
            return Err(Full);
        }
        state.waiting.push_back(job);
        self.arrived.notify_one();
        Ok(())
    }

    fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle_workers += 1;
        let mut state = self
            .arrived
            .wait_while(state, |state| state.waiting.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.idle_workers -= 1;
        state.waiting.pop_front()
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.arrived.notify_all();
    }
}

/// One hashing thread, with the memory it keeps.
struct Worker {
    memory: Vec<Block>,
}

impl Worker {
    fn run(mut self, queue: &Queue) {
        while let Some(job) = queue.pop() {
            // A panic costs the one who asked an answer, not everybody a thread.
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| job(&mut self)));
            if outcome.is_err() {
                self.memory = Vec::new();
                tracing::error!(event = "hashing_panicked");
            }
        }
    }

    fn matches(&mut self, stored: &Argon2Hash, password: &Password) -> bool {
        let computed = self.compute(stored, password);
        computed.ct_eq(&stored.hash).into()
    }

    fn fill(&mut self, mut blank: Argon2Hash, password: &Password) -> EncodedPassword {
        blank.hash = self.compute(&blank, password);
        blank.encode()
    }

    fn compute(&mut self, hash: &Argon2Hash, password: &Password) -> Zeroizing<Vec<u8>> {
        let mut output = Zeroizing::new(vec![0; hash.hash.len()]);
        let params = hash
            .cost
            .params(output.len())
            .expect("the cost was bounded when the hash was read");
        let blocks = params.block_count();
        if self.memory.len() < blocks {
            self.memory.resize(blocks, Block::default());
        }
        Argon2::new(hash.algorithm, Version::V0x13, params)
            .hash_password_into_with_memory(
                password.expose().as_bytes(),
                &hash.salt,
                &mut output,
                &mut self.memory[..blocks],
            )
            .expect("password, salt and output were bounded when they were read");
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;

    fn hasher(settings: HashingSettings) -> PasswordHasher {
        PasswordHasher::start(settings, Arc::new(SystemRandomness))
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_no_other() {
        let hasher = hasher(HashingSettings::CHEAP);
        let stored = hasher.hash(password("correct horse")).await.unwrap();
        let check = async |text| {
            hasher
                .verify(password(text), Some(stored.clone()))
                .await
                .unwrap()
        };
        assert_eq!(check("correct horse").await, Verdict::Right);
        assert_eq!(check("correct horse ").await, Verdict::Wrong);
        assert_eq!(check("Correct horse").await, Verdict::Wrong);
        assert_eq!(check("correct horse\0").await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn nobody_and_unusable_passwords_match_nothing() {
        let hasher = hasher(HashingSettings::CHEAP);
        for stored in [
            None,
            Some(EncodedPassword::unusable()),
            Some(EncodedPassword::new("")),
        ] {
            let verdict = hasher.verify(password("!"), stored).await.unwrap();
            assert_eq!(verdict, Verdict::Wrong);
        }
    }

    #[tokio::test]
    async fn an_outdated_hash_is_upgraded_when_the_password_is_right() {
        let old = hasher(HashingSettings::CHEAP);
        let stored = old.hash(password("correct horse")).await.unwrap();
        let cost = Argon2Cost {
            memory_kib: 16,
            passes: 2,
            lanes: 1,
        };
        let today = hasher(HashingSettings {
            cost,
            ..HashingSettings::CHEAP
        });

        let wrong = today
            .verify(password("wrong"), Some(stored.clone()))
            .await
            .unwrap();
        assert_eq!(wrong, Verdict::Wrong);
        let right = today
            .verify(password("correct horse"), Some(stored))
            .await
            .unwrap();
        let Verdict::RightAndUpgraded(upgraded) = right else {
            panic!("not upgraded: {right:?}")
        };
        assert!(
            upgraded
                .as_str()
                .starts_with("argon2$argon2id$v=19$m=16,t=2,p=1$")
        );
        let again = today
            .verify(password("correct horse"), Some(upgraded))
            .await
            .unwrap();
        assert_eq!(again, Verdict::Right);
    }

    #[tokio::test]
    async fn todays_cost_is_owasps_and_fits_djangos_column() {
        let settings = HashingSettings {
            cost: Argon2Cost::default(),
            threads: 1,
            queue: 1,
        };
        let stored = hasher(settings)
            .hash(password("correct horse"))
            .await
            .unwrap();
        assert!(
            stored
                .as_str()
                .starts_with("argon2$argon2id$v=19$m=19456,t=2,p=1$")
        );
        assert!(
            stored.as_str().len() <= 128,
            "{} characters",
            stored.as_str().len()
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn beyond_the_queue_the_answer_is_overloaded() {
        let settings = HashingSettings {
            threads: 1,
            queue: 2,
            ..HashingSettings::CHEAP
        };
        let hasher = hasher(settings);
        let (started, has_started) = oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let blocked = hasher.run(move |_| {
            let _receiver_waits = started.send(());
            let _sender_lives = released.recv();
        });
        let busy = async {
            has_started.await.unwrap();
            let waiting = [hasher.hash(password("one")), hasher.hash(password("two"))];
            let mut waiting = Box::pin(async {
                let [one, two] = waiting;
                tokio::join!(one, two)
            });
            // Poll once, so that both stand in the queue.
            tokio::select! { biased; _ = &mut waiting => unreachable!(), () = async {} => {} }
            assert!(hasher.hash(password("three")).await.is_err());
            release.send(()).unwrap();
            let (one, two) = waiting.await;
            assert!(one.is_ok() && two.is_ok());
        };
        let (blocked, ()) = tokio::join!(blocked, busy);
        assert!(blocked.is_ok());
    }

    #[tokio::test]
    async fn a_queue_of_nothing_still_serves_an_idle_thread() {
        let hasher = hasher(HashingSettings {
            threads: 1,
            queue: 0,
            ..HashingSettings::CHEAP
        });
        // The thread may still be on its way to its first wait.
        for _ in 0..1_000 {
            if hasher.hash(password("one")).await.is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("an idle thread was never given work");
    }

    #[test]
    fn an_overlong_password_is_refused_before_hashing() {
        assert!(Password::new("a".repeat(MAX_PASSWORD_BYTES)).is_ok());
        assert!(Password::new("a".repeat(MAX_PASSWORD_BYTES + 1)).is_err());
        assert!(Password::new(String::new()).is_err());
    }
}
