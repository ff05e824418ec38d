//! What other nodes change, and what other programs may have.
//!
//! One connection listens. Thirteen times a second it is asked for the time. PostgreSQL sends what was
//! notified before it answers, so an answer shows that everything has been heard that was committed when
//! it was asked ([`Change::Listening`]), and it sets the clock. Who stood still, or whom the network has
//! cut off, misses these answers at once. If there is none for a second, the watchers are told so until
//! there is one again.
//!
//! Behind a pooler that gives each transaction another connection, nobody can listen. There the rows
//! of `countersign_change` are looked at instead, twenty times a second.
//!
//! Other programs on the same tables leave no rows. Whether anybody has committed anything since is
//! told by PostgreSQL's snapshot, at no cost; whatever it was, users are then read anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use countersign_core::store::{Change, Watchers};
use futures_util::future;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{Notification, Row};

use super::changes::CHANNEL;
use super::clock::DatabaseClock;
use super::failure::Failure;
use super::instant;
use super::link::{self, Connector, Link};
use super::origins::Origins;
use super::rows;

/// How often the connection is asked whether it still hears. With the time to answer, well within the
/// 250 ms after which what is known is not relied upon.
const HEARTBEAT: Duration = Duration::from_millis(75);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often changes are looked at where nobody can listen.
const POLL: Duration = Duration::from_millis(50);

/// How long to wait before connecting again: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// How a store hears of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// By listening.
    Listen,
    /// By looking.
    Poll,
}

/// The task that hears. When dropped, it ends.
#[derive(Debug)]
pub(super) struct Feed {
    alive: Arc<AtomicBool>,
    clock: Arc<DatabaseClock>,
    task: AbortHandle,
}

impl Feed {
    /// Starts from now on.
    pub(super) async fn start(
        connector: Connector,
        hearing: Hearing,
        users_every: Duration,
        watchers: Arc<Watchers>,
        origins: Arc<Origins>,
    ) -> Result<Self, Failure> {
        let mut ears = Ears::open(&connector, hearing).await?;
        // Nobody watches yet.
        let clock = Arc::new(ears.beat(|_| ()).await?.into_clock());
        let alive = Arc::new(AtomicBool::new(true));
        let feed = FeedTask {
            connector,
            hearing,
            users_every,
            users_doubted: Instant::now(),
            is_news: false,
            watchers,
            origins,
            alive: Arc::clone(&alive),
            clock: Arc::clone(&clock),
        };
        let task = tokio::spawn(feed.run(ears)).abort_handle();
        Ok(Self { alive, clock, task })
    }

    /// Whether others' changes are heard of.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(super) fn clock(&self) -> Arc<DatabaseClock> {
        Arc::clone(&self.clock)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that hears.
struct Ears {
    link: Link,
    heard: UnboundedReceiver<Notification>,
    /// Which transactions had been committed when the connection was last asked.
    snapshot: Option<String>,
    /// All transactions before this one have been looked at.
    horizon: i64,
    /// Rows of later ones that have been looked at nevertheless.
    seen: HashSet<i64>,
}

/// What the connection answered when it was asked.
struct Beat {
    asked: Instant,
    took: Duration,
    told: jiff::Timestamp,
    /// Whether anybody has committed anything since the last time.
    is_news: bool,
}

impl Beat {
    fn into_clock(self) -> DatabaseClock {
        DatabaseClock::new(self.told, self.asked)
    }
}

impl Ears {
    async fn open(connector: &Connector, hearing: Hearing) -> Result<Self, Failure> {
        let (link, heard) = connector.listen().await?;
        if hearing == Hearing::Listen {
            link.run(&format!("LISTEN {CHANNEL}")).await?;
        }
        let mut ears = Self {
            link,
            heard,
            snapshot: None,
            horizon: 0,
            seen: HashSet::new(),
        };
        if hearing == Hearing::Poll {
            ears.horizon = ears.read_horizon().await?;
        }
        Ok(ears)
    }

    /// Asks, and meanwhile gives whatever is heard to `tell`. All that was committed before it was asked
    /// has been told when this answers.
    async fn beat(&mut self, mut tell: impl FnMut(&str)) -> Result<Beat, Failure> {
        let asked = Instant::now();
        let sql = "SELECT clock_timestamp(), pg_current_snapshot()::text, pg_is_in_recovery()";
        let asking = self.link.query(sql, &[]);
        tokio::pin!(asking);
        let answer = loop {
            tokio::select! {
                biased;
                Some(heard) = self.heard.recv() => tell(heard.payload()),
                answer = &mut asking => break answer?,
            }
        };
        let took = asked.elapsed();
        // It came before the answer, and may have been put here since we looked.
        while let Ok(heard) = self.heard.try_recv() {
            tell(heard.payload());
        }
        let row = one_row(answer)?;
        // A pooler can put another server behind an open connection.
        let is_standby: bool = row.try_get(2)?;
        if is_standby {
            return Err(link::standby());
        }
        let snapshot: String = row.try_get(1)?;
        let before = self.snapshot.replace(snapshot);
        Ok(Beat {
            asked,
            took,
            told: row.try_get::<_, instant::Instant>(0)?.0,
            is_news: before.is_some() && before != self.snapshot,
        })
    }

    async fn read_horizon(&self) -> Result<i64, Failure> {
        let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
        Ok(one_row(self.link.query(sql, &[]).await?)?.try_get(0)?)
    }

    /// The origins and words of what is new in the table.
    async fn look(&mut self) -> Result<Vec<(i64, String)>, Failure> {
        let sql = "SELECT id, origin, said FROM countersign_change WHERE transaction >= $1
             ORDER BY id";
        let since = [(&self.horizon as _, Type::INT8)];
        // In this order: what had been committed at the horizon is seen by whoever looks after.
        let (horizon, rows) = future::join(self.read_horizon(), self.link.query(sql, &since)).await;
        let mut seen = HashSet::new();
        let mut new = Vec::new();
        for row in rows? {
            let id = row.try_get(0)?;
            if !self.seen.contains(&id) {
                new.push((row.try_get(1)?, row.try_get(2)?));
            }
            seen.insert(id);
        }
        self.horizon = horizon?;
        self.seen = seen;
        Ok(new)
    }
}

fn one_row(rows: Vec<Row>) -> Result<Row, Failure> {
    rows.into_iter()
        .next()
        .ok_or_else(|| Failure::corrupt("a row that is always there is not"))
}

struct FeedTask {
    connector: Connector,
    hearing: Hearing,
    users_every: Duration,
    users_doubted: Instant,
    /// Whether anybody has committed anything since.
    is_news: bool,
    watchers: Arc<Watchers>,
    origins: Arc<Origins>,
    alive: Arc<AtomicBool>,
    clock: Arc<DatabaseClock>,
}

impl FeedTask {
    async fn run(mut self, mut ears: Ears) {
        loop {
            let failure = self.hear(&mut ears).await;
            self.alive.store(false, Ordering::Release);
            self.watchers.tell(Change::Unheard);
            tracing::error!(error = %failure, "other nodes are not heard of");
            drop(ears);
            ears = self.open_again().await;
            self.alive.store(true, Ordering::Release);
            self.watchers.tell(Change::HeardAgain);
            tracing::info!("other nodes are heard of again");
        }
    }

    /// Hears until it hears no more. Gives the reason.
    async fn hear(&mut self, ears: &mut Ears) -> Failure {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                heard = ears.heard.recv() => match heard {
                    Some(notification) => {
                        self.tell_notified(notification.payload());
                        continue;
                    }
                    None => Err(Failure::unavailable("the connection that listens was lost")),
                },
                _ = heartbeat.tick() => self.beat(ears).await,
                _ = poll.tick(), if self.hearing == Hearing::Poll => self.look(ears).await,
            };
            if let Err(failure) = step {
                return failure;
            }
        }
    }

    async fn beat(&mut self, ears: &mut Ears) -> Result<(), Failure> {
        let beat = in_time(ears.beat(|payload| self.tell_notified(payload))).await?;
        self.clock.correct(beat.told, beat.asked, beat.took);
        if self.hearing == Hearing::Listen {
            self.watchers.tell(Change::Listening(beat.asked));
        }
        self.is_news |= beat.is_news;
        if self.is_news && self.users_doubted.elapsed() >= self.users_every {
            self.is_news = false;
            self.users_doubted = Instant::now();
            self.watchers.tell(Change::UsersChanged);
        }
        Ok(())
    }

    async fn look(&self, ears: &mut Ears) -> Result<(), Failure> {
        let began = Instant::now();
        for (origin, said) in in_time(ears.look()).await? {
            self.tell(origin, &said);
        }
        self.watchers.tell(Change::Listening(began));
        Ok(())
    }

    fn tell_notified(&self, payload: &str) {
        match payload
            .split_once(' ')
            .and_then(|(origin, said)| Some((origin.parse().ok()?, said)))
        {
            Some((origin, said)) => self.tell(origin, said),
            None => self.watchers.tell(Change::Everything),
        }
    }

    fn tell(&self, origin: i64, said: &str) {
        if !self.origins.have_told(origin) {
            self.watchers.tell(rows::change(said));
        }
    }

    async fn open_again(&self) -> Ears {
        let (mut wait, most) = BACK_OFF;
        loop {
            tokio::time::sleep(wait).await;
            match self.try_open().await {
                Ok(ears) => return ears,
                Err(failure) => tracing::debug!(error = %failure, "the database is still away"),
            }
            wait = (wait * 2).min(most);
        }
    }

    async fn try_open(&self) -> Result<Ears, Failure> {
        let mut ears = Ears::open(&self.connector, self.hearing).await?;
        // What is heard meanwhile is read anew with the rest.
        let beat = in_time(ears.beat(|_| ())).await?;
        self.clock.correct(beat.told, beat.asked, beat.took);
        Ok(ears)
    }
}

async fn in_time<T>(asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(PATIENCE, asking)
        .await
        .unwrap_or(Err(Failure::Late(PATIENCE)))
}
