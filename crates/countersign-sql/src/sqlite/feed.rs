//! What other processes change, for example the command line beside a running service.
//!
//! Every transition that others must hear of leaves a row in `countersign_change`. A thread asks
//! SQLite thirteen times a second whether any other connection has committed (`PRAGMA data_version`,
//! which reads one counter in shared memory), and if so reads the rows that are new.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign_core::store::{Change, Watchers};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::failure::Failure;
use super::file::{Attachment, DatabaseFile, Role};
use super::readers::Readers;
use super::rows::{self, change_columns};

/// How often the file and other processes' changes are looked at. With the time to read and tell,
/// well within the 250 ms after which a session's end must hold everywhere.
pub(super) const INTERVAL: Duration = Duration::from_millis(75);

/// How long rows are kept: longer than any process stands still and goes on.
const KEPT_MILLISECONDS: i64 = 24 * 60 * 60 * 1_000;

/// Writes the row that tells other processes of a change.
pub(super) fn record(connection: &Connection, change: Change, origin: i64) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO countersign_change (kind, subject, origin, at)
         VALUES (?1, ?2, ?3, unixepoch('subsec') * 1000)",
    )?;
    let kind = rows::change_kind(change);
    match change {
        Change::SessionEnded(session) => {
            statement.execute(params![kind, session.id.0.as_bytes().as_slice(), origin])
        }
        Change::UserChanged(id) => statement.execute(params![kind, id.0, origin]),
        Change::UsersChanged
        | Change::KeysChanged
        | Change::Everything
        | Change::Unheard
        | Change::HeardAgain
        | Change::Listening(_) => statement.execute(params![kind, None::<i64>, origin]),
    }?;
    Ok(())
}

/// Deletes rows that nobody needs any more: at most some more than are written with them, so that
/// the table shrinks to what is kept and no transaction has much to do.
pub(super) fn prune(connection: &Connection, written: usize) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM countersign_change
         WHERE id < (SELECT min(id) FROM countersign_change) + ?1
           AND at < unixepoch('subsec') * 1000 - ?2",
    )?;
    let batch = i64::try_from(written).unwrap_or(i64::MAX / 4) * 2 + 16;
    statement.execute(params![batch, KEPT_MILLISECONDS])?;
    Ok(())
}

/// The thread that looks. When dropped, it ends.
#[derive(Debug)]
pub(super) struct Feed {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    alive: Arc<AtomicBool>,
}

impl Feed {
    /// Starts from the last change that was written before.
    pub(super) fn start(
        file: Arc<DatabaseFile>,
        readers: Arc<Readers>,
        watchers: Arc<Watchers>,
        origin: i64,
    ) -> Result<Self, Failure> {
        let attachment = file.attach(Role::Feed)?;
        let seen = last_change(&attachment.connection)?;
        let database = attachment.id();
        let alive = Arc::new(AtomicBool::new(true));
        let (stop, stopped) = sync_channel(0);
        let thread = FeedThread {
            file,
            readers,
            watchers,
            origin,
            alive: Arc::clone(&alive),
            attachment: Some(attachment),
            database,
            data_version: None,
            seen,
            landmark: None,
        };
        let thread = thread::Builder::new()
            .name("countersign-sqlite-feed".to_owned())
            .spawn(move || thread.run(&stopped))
            .map_err(|error| no_thread(&error))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            alive,
        })
    }

    /// Whether other processes' changes are heard of.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed, and matters no more.
            let _ = thread.join();
        }
    }
}

/// What the caller is told when the machine gives no thread.
pub(super) fn no_thread(error: &io::Error) -> Failure {
    Failure::unavailable(format!("no thread for the store: {error}"))
}

struct FeedThread {
    file: Arc<DatabaseFile>,
    readers: Arc<Readers>,
    watchers: Arc<Watchers>,
    origin: i64,
    alive: Arc<AtomicBool>,
    attachment: Option<Attachment>,
    /// Which file `seen` counts in.
    database: (u64, u64),
    data_version: Option<i64>,
    /// The last change that has been told.
    seen: i64,
    landmark: Option<Landmark>,
}

impl FeedThread {
    fn run(mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let began = Instant::now();
            let looked = panic::catch_unwind(AssertUnwindSafe(|| self.look()));
            let looked = looked.unwrap_or_else(|_| {
                self.attachment = None;
                Err(Failure::unavailable("reading what others changed panicked"))
            });
            let was_alive = self.alive.swap(looked.is_ok(), Ordering::AcqRel);
            match looked {
                Ok(()) if !was_alive => {
                    tracing::info!("the database is there again");
                    self.watchers.tell(Change::HeardAgain);
                }
                Err(failure) if was_alive => {
                    self.watchers.tell(Change::Unheard);
                    tracing::error!(error = %failure, "the database cannot be read");
                }
                Ok(()) | Err(_) => {}
            }
            if self.alive.load(Ordering::Acquire) {
                self.watchers.tell(Change::Listening(began));
            }
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        let file = &self.file;
        if let Some(held) = self
            .attachment
            .take_if(|held| held.epoch != file.epoch() || !held.is_in_place())
        {
            file.lost(held.epoch);
            // Idle readers would keep the space of an unlinked file.
            self.readers.release();
        }
        let looked = self.read_changes();
        if looked
            .as_ref()
            .is_err_and(|failure| !failure.spares_the_connection())
        {
            self.attachment = None;
        }
        looked
    }

    fn read_changes(&mut self) -> Result<(), Failure> {
        let attachment = match &mut self.attachment {
            Some(attachment) => attachment,
            empty => {
                let attachment = empty.insert(self.file.attach(Role::Feed)?);
                self.data_version = None;
                let last = last_change(&attachment.connection)?;
                if attachment.id() != self.database || last < self.seen {
                    self.database = attachment.id();
                    self.seen = last;
                    self.landmark = None;
                    self.watchers.tell(Change::Everything);
                }
                attachment
            }
        };
        let connection = &attachment.connection;
        let version = connection.prepare_cached("PRAGMA data_version")?;
        let version = { version }.query_row([], |row| row.get(0))?;
        if self.data_version == Some(version) {
            return Ok(());
        }
        let last = last_change(connection)?;
        let has_moved = match &self.landmark {
            Some(landmark) => !landmark.stands(connection, self.seen, last)?,
            None => false,
        };
        if has_moved || last < self.seen {
            // Somebody copied a backup over the database: the numbers go on from elsewhere.
            self.seen = last;
            self.watchers.tell(Change::Everything);
        }
        let mut statement = connection.prepare_cached(concat!(
            "SELECT countersign_change.id, origin, ",
            change_columns!(),
            " FROM countersign_change LEFT JOIN countersign_session
                 ON kind = 'session_ended' AND countersign_session.id = subject
               WHERE countersign_change.id > ?1 ORDER BY countersign_change.id"
        ))?;
        let mut new = statement.query([self.seen])?;
        while let Some(row) = new.next()? {
            let id: i64 = row.get(0)?;
            if id != self.seen + 1 {
                // What is missing was pruned while this process stood still.
                self.watchers.tell(Change::Everything);
            }
            self.seen = id;
            let origin: i64 = row.get(1)?;
            if origin != self.origin {
                self.watchers.tell(rows::change(row, 2)?);
            }
        }
        self.landmark = Some(Landmark::at(connection, self.seen)?);
        self.data_version = Some(version);
        Ok(())
    }
}

/// When and by whom the last change was written that has been told: whether its number still means the
/// same.
#[derive(Debug, PartialEq, Eq)]
struct Landmark(Option<(i64, i64)>);

impl Landmark {
    fn at(connection: &Connection, id: i64) -> Result<Self, Failure> {
        let mut statement =
            connection.prepare_cached("SELECT at, origin FROM countersign_change WHERE id = ?1")?;
        let row = statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(Self(row.optional()?))
    }

    /// Whether the change of this number is still there as it was, or has been pruned since others came
    /// after it.
    fn stands(&self, connection: &Connection, id: i64, last: i64) -> Result<bool, Failure> {
        let now = Self::at(connection, id)?;
        Ok(now == *self || (now.0.is_none() && last > id))
    }
}

/// The number of the last change that was written.
fn last_change(connection: &Connection) -> Result<i64, Failure> {
    let last = "SELECT seq FROM sqlite_sequence WHERE name = 'countersign_change'";
    Ok(connection
        .query_row(last, [], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}
