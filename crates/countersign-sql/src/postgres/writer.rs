//! Transitions, each on a connection of its own while it lasts.
//!
//! A transition goes on when its caller goes away: what it did must be told to the watchers, who
//! will not hear of it otherwise.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::error::StoreError;
use countersign_core::store::{Change, Watchers};
use deadpool::managed::{Object, Pool, PoolConfig, QueueMode, Timeouts};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::Failure;
use super::link::{Connector, Link};
use super::origins::Origins;
use super::statements::Statements;

/// How often a transition is tried that others were in the way of.
const ATTEMPTS: u32 = 3;

/// How long a transition that is late is waited for after it was asked to give up.
const GIVING_UP: Duration = Duration::from_secs(1);

/// What a transition gave, and what the watchers must know of it.
#[derive(Debug)]
pub(super) struct Done<T> {
    pub(super) outcome: T,
    pub(super) changes: Vec<Change>,
}

impl<T> Done<T> {
    /// A transition that nobody need hear of.
    pub(super) fn quietly(outcome: T) -> Self {
        Self {
            outcome,
            changes: Vec::new(),
        }
    }
}

/// A transition with these arguments. It may be run again if others were in its way.
pub(super) type Transition<A, T> =
    for<'t> fn(&'t Link, &'t Statements, &'t A) -> BoxFuture<'t, Result<Done<T>, Failure>>;

/// Runs transitions.
#[derive(Clone)]
pub(super) struct Writer {
    pool: Pool<Connector>,
    watchers: Arc<Watchers>,
    origins: Arc<Origins>,
    sql: Arc<Statements>,
    timeout: Duration,
}

impl Writer {
    pub(super) fn new(
        connector: Connector,
        size: usize,
        watchers: Arc<Watchers>,
        origins: Arc<Origins>,
        sql: Arc<Statements>,
    ) -> Result<Self, Failure> {
        let timeout = connector.timeout();
        let pool = Pool::builder(connector)
            .config(PoolConfig {
                max_size: size.max(1),
                timeouts: Timeouts {
                    wait: Some(timeout),
                    create: Some(timeout),
                    recycle: Some(timeout),
                },
                // Those used last: the others can be let go by whoever limits idle connections.
                queue_mode: QueueMode::Lifo,
            })
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| Failure::unavailable(error.to_string()))?;
        Ok(Self {
            pool,
            watchers,
            origins,
            sql,
            timeout,
        })
    }

    /// Runs a transition. `Ok` is answered when it is durable and the watchers know.
    pub(super) async fn write<A, T>(
        &self,
        arguments: A,
        transition: Transition<A, T>,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let deadline = Instant::now() + self.timeout;
        let writer = self.clone();
        let running =
            tokio::spawn(async move { writer.run(&arguments, transition, deadline).await });
        match timeout_at(deadline, running).await {
            Ok(Ok(Ok(outcome))) => Ok(outcome),
            Ok(Ok(Err(failure))) => Err(failure.into()),
            Ok(Err(_)) => Err(StoreError::Unavailable(
                "the transition was given up half-way".to_owned(),
            )),
            Err(_) => Err(Failure::Late(self.timeout).into()),
        }
    }

    async fn run<A: Sync, T>(
        &self,
        arguments: &A,
        transition: Transition<A, T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let mut attempt = 1;
        loop {
            let link = timeout_at(deadline, self.pool.get())
                .await
                .map_err(|_| Failure::Late(self.timeout))??;
            let done = self
                .run_once(&link, transition(&link, &self.sql, arguments), deadline)
                .await;
            match done {
                Ok(done) => {
                    for change in done.changes {
                        self.watchers.tell(change);
                    }
                    return Ok(done.outcome);
                }
                Err(failure) => {
                    let may_try_again = failure.was_in_the_way() && attempt < ATTEMPTS;
                    self.let_go(link, &failure);
                    if !may_try_again {
                        return Err(failure);
                    }
                    attempt += 1;
                }
            }
        }
    }

    async fn run_once<T>(
        &self,
        link: &Link,
        mut transition: BoxFuture<'_, Result<Done<T>, Failure>>,
        deadline: Instant,
    ) -> Result<Done<T>, Failure> {
        if let Ok(done) = timeout_at(deadline, &mut transition).await {
            return done;
        }
        // The caller has been told that nobody knows, and so must the watchers be.
        self.tell_unknown(link);
        link.cancel().await;
        timeout(GIVING_UP, transition)
            .await
            .unwrap_or(Err(Failure::Late(self.timeout)))
    }

    /// What this connection has done may be read anew, and what it does yet is heard as others' is.
    fn tell_unknown(&self, link: &Link) {
        self.origins.disown(link.origin);
        self.watchers.tell(Change::Everything);
    }

    fn let_go(&self, link: Object<Connector>, failure: &Failure) {
        if failure.leaves_unknown() {
            self.tell_unknown(&link);
        }
        if !failure.spares_the_connection() {
            drop(Object::take(link));
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}
