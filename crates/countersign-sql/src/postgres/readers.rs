//! Reads, sent one after the other on few connections and answered in that order: nobody waits for a
//! connection to be free.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use countersign_core::error::StoreError;
use tokio_postgres::Row;

use super::failure::Failure;
use super::link::{Connector, Link, Parameter};

/// How many connections are shared. More would not answer faster.
const SHARED: usize = 2;

/// The shared connections, each opened when it is first needed.
pub(super) struct Readers {
    connector: Connector,
    slots: [Slot; SHARED],
}

#[derive(Default)]
struct Slot {
    link: Mutex<Option<Arc<Link>>>,
    /// Held by the one who connects, so that the others need not.
    connecting: tokio::sync::Mutex<()>,
    /// How many reads are waiting for an answer.
    waiting: AtomicUsize,
}

/// A read that is waiting for an answer.
struct Waiting<'slot>(&'slot AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slot {
    fn link(&self) -> Option<Arc<Link>> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.take_if(|link| link.is_closed());
        link.clone()
    }

    fn put(&self, link: Option<Arc<Link>>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    async fn connected(&self, connector: &Connector) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.link() {
            return Ok(link);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(link) = self.link() {
            return Ok(link);
        }
        let link = Arc::new(connector.connect().await?);
        self.put(Some(Arc::clone(&link)));
        Ok(link)
    }
}

impl Readers {
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            connector,
            slots: Default::default(),
        }
    }

    /// The first one while few are waiting: it is warm.
    fn least_busy(&self) -> &Slot {
        let [first, others @ ..] = &self.slots;
        let waiting = |slot: &Slot| slot.waiting.load(Ordering::Relaxed);
        others.iter().fold(first, |least, slot| {
            if waiting(slot) < waiting(least) {
                slot
            } else {
                least
            }
        })
    }

    /// The rows that a statement gives.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let limit = self.connector.timeout();
        let slot = self.least_busy();
        slot.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&slot.waiting);
        let reading = async {
            let link = slot.connected(&self.connector).await?;
            let read = link.query(sql, parameters).await;
            if read.is_err() && link.is_closed() {
                // It had been lost before, and nobody had noticed: a read can be asked again.
                let link = slot.connected(&self.connector).await?;
                return link.query(sql, parameters).await;
            }
            read
        };
        let read = tokio::time::timeout(limit, reading)
            .await
            .unwrap_or(Err(Failure::Late(limit)));
        if read
            .as_ref()
            .is_err_and(|failure| !failure.spares_the_connection())
        {
            slot.put(None);
        }
        read
    }

    /// The same, read by type.
    pub(super) async fn read<T>(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        read: impl Fn(&Row) -> Result<T, Failure> + Send,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.query(sql, parameters).await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// The one row that a statement may give.
    pub(super) async fn read_one<T>(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        read: impl Fn(&Row) -> Result<T, Failure> + Send,
    ) -> Result<Option<T>, StoreError> {
        let rows = self.query(sql, parameters).await?;
        Ok(rows.first().map(read).transpose()?)
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Readers").finish_non_exhaustive()
    }
}
