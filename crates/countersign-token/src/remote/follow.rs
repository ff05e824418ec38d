//! The two tasks that follow an issuer.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use hyper::header::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::client::{Answer, Client, FetchError, Question};
use super::line::Line;
use crate::revocation::{MAX_FEED_BYTES, RevocationList};
use crate::{JsonWebKeySet, Verifier, jwks};

/// How long the keys are used before the issuer is asked again, if it does not say less.
const KEYS_REFRESHED_AFTER: Duration = Duration::from_mins(5);

/// The keys are not asked for more often, whatever tokens and answers say: anybody can send a token
/// with a kid that nobody knows.
const KEYS_REFRESHED_AT_MOST_EVERY: Duration = Duration::from_mins(1);

/// The feed is not asked more often than this, however often it changes.
const FEED_ASKED_AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// A list of so many bytes is asked for once a second at the most: whoever signs out very many at once
/// shall not have to send the growing list twenty times a second to everybody.
const FEED_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// And not more often than this while it answers at once that nothing changed: that issuer, or a
/// proxy before it, does not wait. Short enough to see an end within a second all the same.
const FEED_POLLED_EVERY: Duration = Duration::from_millis(500);

const FIRST_RETRY_AFTER: Duration = Duration::from_millis(100);

/// After many failures too, so that an issuer that is back is found soon.
const RETRY_AT_LEAST_EVERY: Duration = Duration::from_secs(2);

/// What the followers keep up to date and verifications use.
pub(super) struct Followed {
    pub(super) verifier: Verifier,
    pub(super) keys: Line,
    pub(super) feed: Line,
    /// Somebody has seen a kid that is not among the keys.
    pub(super) keys_wanted: Notify,
    /// Sent after each fetch of the keys: from when on there may be another.
    pub(super) keys_next: watch::Sender<Instant>,
}

/// Follows the keys.
pub(super) struct KeysFollower {
    client: Client,
    current: Option<JsonWebKeySet>,
    etag: Option<HeaderValue>,
    /// What the issuer last said, of an answer that may since have been confirmed.
    usable_for: Duration,
}

impl KeysFollower {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            current: None,
            etag: None,
            usable_for: KEYS_REFRESHED_AFTER,
        }
    }

    /// Asks once; how long the answer may be used. A set that is refused leaves the old keys.
    pub(super) async fn fetch(&mut self, followed: &Followed) -> Result<Duration, FetchError> {
        let fetched = self.fetch_into(&followed.verifier).await;
        self.client.hang_up();
        match &fetched {
            Ok(_) => followed.keys.heard(),
            Err(why) => followed.keys.failed(why.clone()),
        }
        fetched
    }

    /// Whether there is any key.
    pub(super) fn has_keys(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|set| !set.keys().is_empty())
    }

    async fn fetch_into(&mut self, verifier: &Verifier) -> Result<Duration, FetchError> {
        let answer = self
            .client
            .ask(Question {
                wait_seconds: None,
                etag: self.etag.as_ref(),
                limit_bytes: jwks::MAX_SET_BYTES,
            })
            .await?;
        let Answer::Changed {
            etag,
            max_age,
            body,
        } = answer
        else {
            return Ok(self.usable_for);
        };
        let set = JsonWebKeySet::parse(&body)?;
        // New keys make the verifier forget what it has accepted: not for the same ones.
        if self.current.as_ref() != Some(&set) {
            verifier.replace_keys(set.verifying_keys());
            self.current = Some(set);
        }
        self.etag = etag;
        self.usable_for = max_age.map_or(KEYS_REFRESHED_AFTER, |age| {
            age.clamp(KEYS_REFRESHED_AT_MOST_EVERY, KEYS_REFRESHED_AFTER)
        });
        Ok(self.usable_for)
    }

    /// Follows until it is aborted. `usable_for` is what the first fetch said.
    pub(super) async fn follow(mut self, followed: Arc<Followed>, usable_for: Duration) {
        let mut regular = Instant::now() + usable_for;
        loop {
            let earliest = *followed.keys_next.borrow();
            next_fetch(regular, earliest, &followed.keys_wanted).await;
            let usable_for = self.fetch(&followed).await;
            let now = Instant::now();
            let earliest = now + KEYS_REFRESHED_AT_MOST_EVERY;
            regular = match usable_for {
                Ok(usable_for) => now + usable_for,
                Err(_) => earliest + jitter(KEYS_REFRESHED_AT_MOST_EVERY / 10),
            };
            followed.keys_next.send_replace(earliest);
        }
    }
}

/// Waits until `regular`, or until the keys are wanted before, but then no less than to `earliest`.
async fn next_fetch(regular: Instant, earliest: Instant, wanted: &Notify) {
    let wanted = async {
        wanted.notified().await;
        sleep_until(earliest).await;
    };
    // Either way it is time.
    let _ = timeout_at(regular, wanted).await;
}

/// Follows the revocation feed.
pub(super) struct FeedFollower {
    client: Client,
    etag: Option<HeaderValue>,
}

impl FeedFollower {
    pub(super) fn new(client: Client) -> Self {
        Self { client, etag: None }
    }

    /// Asks once; how many bytes of news there were, if any. A list that is refused leaves what was
    /// known.
    pub(super) async fn fetch(
        &mut self,
        followed: &Followed,
        wait_seconds: Option<u64>,
    ) -> Result<Option<usize>, FetchError> {
        let fetched = self.fetch_into(&followed.verifier, wait_seconds).await;
        match &fetched {
            Ok(_) => followed.feed.heard(),
            Err(why) => {
                self.client.hang_up();
                followed.feed.failed(why.clone());
            }
        }
        fetched
    }

    async fn fetch_into(
        &mut self,
        verifier: &Verifier,
        wait_seconds: Option<u64>,
    ) -> Result<Option<usize>, FetchError> {
        let answer = self
            .client
            .ask(Question {
                wait_seconds,
                etag: self.etag.as_ref(),
                limit_bytes: MAX_FEED_BYTES,
            })
            .await?;
        let Answer::Changed { etag, body, .. } = answer else {
            return Ok(None);
        };
        verifier.apply_revocations(&RevocationList::parse(&body)?);
        let is_news = etag.is_some() && etag != self.etag;
        self.etag = etag;
        Ok(is_news.then_some(body.len()))
    }

    /// Follows until it is aborted, with questions that wait up to `wait_seconds` for a change.
    pub(super) async fn follow(mut self, followed: Arc<Followed>, wait_seconds: u64) {
        let mut failures = 0;
        // After a failure, so at first if the feed has not been heard, the issuer is asked for an
        // answer at once: a wait would leave open for its time whether it is back.
        let mut can_wait = followed.feed.heard_ago().is_some();
        loop {
            let asked = Instant::now();
            let wait = can_wait.then_some(wait_seconds);
            let fetched = self.fetch(&followed, wait).await;
            can_wait = fetched.is_ok();
            if let Ok(news_bytes) = fetched {
                failures = 0;
                let pace = pace(news_bytes, wait, asked.elapsed());
                sleep_until(asked + pace).await;
            } else {
                sleep(retry_after(failures)).await;
                failures += 1;
            }
        }
    }
}

/// How far apart one question and the next begin at least, after an answer that took `took`.
fn pace(news_bytes: Option<usize>, wait_seconds: Option<u64>, took: Duration) -> Duration {
    let has_waited =
        wait_seconds.is_some_and(|seconds| seconds > 0 && took >= Duration::from_secs(seconds) / 2);
    // Whoever was not asked to wait has not refused to.
    let may_yet_wait = wait_seconds.is_none();
    if let Some(bytes) = news_bytes {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let milliseconds = bytes.saturating_mul(1_000) / FEED_BYTES_PER_SECOND;
        Duration::from_millis(milliseconds).max(FEED_ASKED_AT_MOST_EVERY)
    } else if has_waited || may_yet_wait {
        FEED_ASKED_AT_MOST_EVERY
    } else {
        FEED_POLLED_EVERY
    }
}

/// Twice as long each time, spread so that many resource servers do not come back all at once.
fn retry_after(failures: u32) -> Duration {
    let full = FIRST_RETRY_AFTER
        .saturating_mul(1 << failures.min(10))
        .min(RETRY_AT_LEAST_EVERY);
    full / 2 + jitter(full / 2)
}

/// A time at random, at most `most`.
fn jitter(most: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no spreading, and nothing worse.
    let _ = rand::fill(&mut byte);
    most * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// When `next_fetch` is over, in seconds from now.
    async fn seconds_to_next_fetch(regular: u64, earliest: u64, wanted_at: Option<u64>) -> u64 {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let wanted = Notify::new();
        let asking = async {
            if let Some(seconds) = wanted_at {
                sleep_until(at(seconds)).await;
                for _ in 0..10_000 {
                    wanted.notify_one();
                }
            }
        };
        tokio::join!(next_fetch(at(regular), at(earliest), &wanted), asking);
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_when_it_is_time_and_earlier_when_they_are_wanted() {
        assert_eq!(seconds_to_next_fetch(300, 60, None).await, 300);
        assert_eq!(seconds_to_next_fetch(300, 60, Some(100)).await, 100);
        assert_eq!(seconds_to_next_fetch(300, 60, Some(1)).await, 60);
        assert_eq!(seconds_to_next_fetch(300, 0, Some(1)).await, 1);
    }

    #[test]
    fn an_issuer_that_does_not_wait_is_polled_twice_a_second() {
        assert_eq!(pace(None, Some(25), SECOND), FEED_POLLED_EVERY);
        assert_eq!(pace(None, Some(0), SECOND), FEED_POLLED_EVERY);
        assert_eq!(pace(Some(90), Some(25), SECOND), FEED_ASKED_AT_MOST_EVERY);
        assert_eq!(pace(None, Some(25), 25 * SECOND), FEED_ASKED_AT_MOST_EVERY);
        assert_eq!(pace(None, None, SECOND), FEED_ASKED_AT_MOST_EVERY);
    }

    #[test]
    fn a_very_long_list_is_asked_for_less_often() {
        let bytes = |megabytes: usize| Some(megabytes * 1024 * 1024);
        assert_eq!(pace(bytes(8), Some(25), SECOND), SECOND / 2);
        assert_eq!(pace(bytes(64), Some(25), SECOND), 4 * SECOND);
    }

    #[test]
    fn failures_are_retried_soon_and_never_late() {
        for failures in [0, 1, 5, 6, 100, u32::MAX] {
            for _ in 0..100 {
                let after = retry_after(failures);
                assert!(after >= FIRST_RETRY_AFTER / 2, "{failures}: {after:?}");
                assert!(after <= RETRY_AT_LEAST_EVERY, "{failures}: {after:?}");
            }
        }
        assert!(retry_after(0) <= FIRST_RETRY_AFTER);
        assert!(retry_after(20) >= RETRY_AT_LEAST_EVERY / 2);
    }
}
