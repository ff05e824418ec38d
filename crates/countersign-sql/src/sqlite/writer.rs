//! The one thread that writes.
//!
//! It takes every transition that is waiting into one transaction, with a savepoint each, commits,
//! and only then answers: each caller knows that its own is on disk, and all of them shared one
//! `fsync`. A transition that is alone does not wait for company.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use countersign_core::error::StoreError;
use countersign_core::store::{Change, Watchers};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::failure::Failure;
use super::feed;
use super::file::{self, Attachment, DatabaseFile, Role};

/// Transitions that may wait. At 20,000 a second, a fifth of a second's worth.
const QUEUE: usize = 4_096;

/// Transitions in one transaction. More would let the first wait without making the last faster.
const GROUP: usize = 256;

/// Hands transitions to the thread that writes. When dropped, waits until it has done them.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Waiting>>,
    thread: Option<JoinHandle<()>>,
    timeout: Duration,
}

/// What a transition works with.
#[derive(Debug)]
pub(super) struct Transition<'group> {
    pub(super) connection: &'group Connection,
    changes: &'group mut Vec<Change>,
    origin: i64,
}

impl Transition<'_> {
    /// Notes a change, to be told once it is on disk: here by the writer, and to other processes by
    /// the row.
    pub(super) fn tell(&mut self, change: Change) -> Result<(), Failure> {
        feed::record(self.connection, change, self.origin)?;
        self.changes.push(change);
        Ok(())
    }
}

/// A transition in the queue.
struct Waiting {
    deadline: Instant,
    call: Box<dyn Call>,
}

/// A transition of any result, and where its caller waits.
trait Call: Send {
    /// Runs the transition and keeps what came of it.
    fn run(&mut self, transition: &mut Transition<'_>) -> Result<(), Failure>;

    /// Keeps an error as what came of it.
    fn refuse(&mut self, error: StoreError);

    /// Tells the caller what came of it.
    fn answer(self: Box<Self>);
}

struct TypedCall<F, T> {
    transition: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call for TypedCall<F, T>
where
    F: FnOnce(&mut Transition<'_>) -> Result<T, Failure> + Send,
    T: Send,
{
    fn run(&mut self, transition: &mut Transition<'_>) -> Result<(), Failure> {
        if let Some(run) = self.transition.take() {
            self.outcome = Some(Ok(run(transition)?));
        }
        Ok(())
    }

    fn refuse(&mut self, error: StoreError) {
        self.outcome = Some(Err(error));
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // A caller that went away does not want to know.
            let _ = self.reply.send(outcome);
        }
    }
}

impl Writer {
    /// Starts the thread, on a connection that is open already.
    pub(super) fn start(
        file: Arc<DatabaseFile>,
        attachment: Attachment,
        watchers: Arc<Watchers>,
        origin: i64,
    ) -> io::Result<Self> {
        let timeout = file.timeout();
        let (sender, queue) = sync_channel(QUEUE);
        let thread = WriterThread {
            file,
            queue,
            attachment: Some(attachment),
            waiting: Vec::with_capacity(GROUP),
            told: Vec::new(),
            watchers,
            data_version: None,
            origin,
        };
        let thread = thread::Builder::new()
            .name("countersign-sqlite-writer".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self {
            queue: Some(sender),
            thread: Some(thread),
            timeout,
        })
    }

    /// Runs a transition. `Ok` is answered when it is on disk.
    pub(super) async fn write<F, T>(&self, transition: F) -> Result<T, StoreError>
    where
        F: FnOnce(&mut Transition<'_>) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = TypedCall {
            transition: Some(transition),
            outcome: None,
            reply,
        };
        self.enqueue(Box::new(call))?;
        answer.await.unwrap_or_else(|_| Err(given_up()))
    }

    fn enqueue(&self, call: Box<dyn Call>) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(given_up)?;
        let waiting = Waiting {
            deadline: Instant::now() + self.timeout,
            call,
        };
        queue.try_send(waiting).map_err(|error| match error {
            TrySendError::Full(_) => {
                StoreError::Unavailable(format!("{QUEUE} transitions are waiting already"))
            }
            TrySendError::Disconnected(_) => given_up(),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It catches its panics: there is nothing to learn from how it ended.
            let _ = thread.join();
        }
    }
}

fn given_up() -> StoreError {
    StoreError::Unavailable("the transition was given up half-way and undone".to_owned())
}

struct WriterThread {
    file: Arc<DatabaseFile>,
    queue: Receiver<Waiting>,
    attachment: Option<Attachment>,
    /// The group, oldest first.
    waiting: Vec<Waiting>,
    /// The changes that the group made.
    told: Vec<Change>,
    watchers: Arc<Watchers>,
    /// Changes when somebody else commits: this is the only connection of this process that does.
    data_version: Option<i64>,
    origin: i64,
}

/// Why a group was not committed. Nothing of it was done.
enum Trouble {
    /// Another process holds the lock; those of the group who have time left may wait on.
    Locked(Failure),
    /// Anything else.
    Undone(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Undone(failure)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Undone(error.into())
    }
}

impl WriterThread {
    fn run(mut self) {
        // From what is there at the start, or our own first commit would be taken for a stranger's.
        self.look_for_strangers();
        loop {
            match self.queue.recv_timeout(feed::INTERVAL) {
                Ok(first) => self.waiting.push(first),
                Err(RecvTimeoutError::Timeout) => self.look_for_strangers(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while !self.waiting.is_empty() {
                let room = GROUP.saturating_sub(self.waiting.len());
                self.waiting.extend(self.queue.try_iter().take(room));
                let survived = panic::catch_unwind(AssertUnwindSafe(|| self.do_waiting()));
                if survived.is_err() {
                    tracing::error!("a transition panicked; its group was undone");
                    // Closing the connection rolls back, and dropping the calls answers them.
                    self.attachment = None;
                    self.waiting.clear();
                    // It may have been after the commit.
                    self.watchers.tell(Change::Everything);
                }
            }
        }
    }

    /// Does what is waiting, and answers.
    fn do_waiting(&mut self) {
        self.told.clear();
        let error = match self.commit_group() {
            Ok(()) => {
                for change in self.told.drain(..) {
                    self.watchers.tell(change);
                }
                self.waiting
                    .drain(..)
                    .for_each(|waiting| waiting.call.answer());
                self.look_for_strangers();
                return;
            }
            Err(Trouble::Locked(failure)) => {
                let now = Instant::now();
                let (late, in_time) = mem::take(&mut self.waiting)
                    .into_iter()
                    .partition(|waiting| waiting.deadline <= now);
                self.waiting = in_time;
                refuse(late, &failure.into());
                self.look_for_strangers();
                return;
            }
            Err(Trouble::Undone(failure)) => {
                self.end_transaction(&failure);
                // If the disk failed during the commit nobody knows what was kept.
                self.watchers.tell(Change::Everything);
                failure.into()
            }
        };
        refuse(mem::take(&mut self.waiting), &error);
    }

    /// Does what is waiting in one transaction. `Ok`: it is on disk, and each call has its outcome.
    fn commit_group(&mut self) -> Result<(), Trouble> {
        let deadline = self.waiting.first().map(|oldest| oldest.deadline);
        let attachment = Self::attachment(&self.file, &mut self.attachment)?;
        let connection = &attachment.connection;

        let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // In slices: whoever holds the lock may be changing users.
        connection.busy_timeout(patience.unwrap_or_default().min(feed::INTERVAL))?;
        let begun = run(connection, "BEGIN IMMEDIATE");
        begun.map_err(|failure| {
            if failure.is_busy() {
                Trouble::Locked(failure)
            } else {
                Trouble::Undone(failure)
            }
        })?;

        for waiting in &mut self.waiting {
            let already_told = self.told.len();
            run(connection, "SAVEPOINT transition")?;
            let mut transition = Transition {
                connection,
                changes: &mut self.told,
                origin: self.origin,
            };
            let Err(failure) = waiting.call.run(&mut transition) else {
                run(connection, "RELEASE transition")?;
                continue;
            };
            // Some errors make SQLite roll back everything, and some leave the connection of no
            // use; then the whole group has failed.
            if connection.is_autocommit() || !failure.spares_the_connection() {
                return Err(Trouble::Undone(failure));
            }
            run(connection, "ROLLBACK TO transition")?;
            run(connection, "RELEASE transition")?;
            self.told.truncate(already_told);
            waiting.call.refuse(failure.into());
        }
        if !self.told.is_empty() {
            feed::prune(connection, self.told.len())?;
        }
        run(connection, "COMMIT").map_err(|failure| {
            // No one transition is to blame, as one would be for a constraint of its own statement.
            if failure.code() == Some(ErrorCode::ConstraintViolation) {
                Failure::unavailable(failure.to_string())
            } else {
                failure
            }
        })?;

        // What went into a file that has been unlinked is on disk for nobody.
        if !attachment.is_in_place() {
            return Err(Trouble::Undone(file::gone().into()));
        }
        Ok(())
    }

    /// Looks whether another process has committed anything since the last time. Ours leave rows that
    /// the feed reads; other programs on the same tables leave none, and may have changed users.
    fn look_for_strangers(&mut self) {
        let held = self.attachment.as_ref();
        let Some(attachment) =
            held.filter(|held| held.epoch == self.file.epoch() && held.is_in_place())
        else {
            // Nobody can tell.
            self.data_version = None;
            self.watchers.tell(Change::UsersChanged);
            return;
        };
        let version: Option<i64> = attachment
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .ok();
        let before = mem::replace(&mut self.data_version, version);
        if version.is_none() || version != before {
            self.watchers.tell(Change::UsersChanged);
        }
    }

    /// The connection, if the path still leads to what it holds, or else a new one.
    fn attachment<'slot>(
        file: &DatabaseFile,
        slot: &'slot mut Option<Attachment>,
    ) -> Result<&'slot Attachment, Failure> {
        if let Some(held) = slot.as_ref()
            && (held.epoch != file.epoch() || !held.is_in_place())
        {
            held.rescue_log()?;
            // Known before anything is opened anew, so that no reader stays behind with the old.
            file.lost(held.epoch);
            *slot = None;
        }
        match slot {
            Some(held) => Ok(held),
            empty => Ok(empty.insert(file.attach(Role::Writer)?)),
        }
    }

    /// Ends the transaction of a group that failed.
    fn end_transaction(&mut self, failure: &Failure) {
        let Some(attachment) = &self.attachment else {
            return;
        };
        let connection = &attachment.connection;
        let ended = connection.is_autocommit() || run(connection, "ROLLBACK").is_ok();
        if !ended || !failure.spares_the_connection() {
            // Closing it rolls back.
            self.attachment = None;
        }
    }
}

fn run(connection: &Connection, statement: &str) -> Result<(), Failure> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

fn refuse(group: Vec<Waiting>, error: &StoreError) {
    for mut waiting in group {
        waiting.call.refuse(error.clone());
        waiting.call.answer();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use countersign_core::store::Listener;
    use countersign_core::user::UserId;
    use tempfile::TempDir;

    use super::super::{Readers, schema};
    use super::*;
    use crate::user_table::UserTable;

    /// A writer alone, and a reader to see what it did.
    struct Desk {
        writer: Writer,
        readers: Readers,
        told: Listener,
        _directory: TempDir,
    }

    impl Desk {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("countersign.db");
            let timeout = Duration::from_secs(5);
            file::create(&path).unwrap();
            let connection = file::connect(&path, Role::Writer, timeout).unwrap();
            schema::migrate(&connection, &UserTable::default(), timeout).unwrap();
            let file = Arc::new(DatabaseFile::new(path, timeout));
            let attachment = file.attach(Role::Writer).unwrap();
            let watchers = Arc::new(Watchers::default());
            let told = Listener::among(&watchers);
            let writer = Writer::start(Arc::clone(&file), attachment, watchers, 7).unwrap();
            Self {
                writer,
                readers: Readers::new(file, 1),
                told,
                _directory: directory,
            }
        }

        /// What transitions have told; the rest is about what others may have done.
        fn told_of_users(&mut self) -> Vec<Change> {
            let mut told = self.told.heard();
            told.retain(|change| matches!(change, Change::UserChanged(_)));
            told
        }

        fn rows(&self) -> i64 {
            let count = "SELECT count(*) FROM countersign_change";
            self.readers
                .read(|connection| Ok(connection.query_row(count, [], |row| row.get(0))?))
                .unwrap()
        }

        /// Holds the writer in a transition until the sender is dropped.
        fn hold(
            &self,
        ) -> (
            impl Future<Output = Result<(), StoreError>>,
            mpsc::Sender<()>,
        ) {
            let (release, held) = mpsc::channel::<()>();
            let holding = self.writer.write(move |_| {
                let _ = held.recv();
                Ok(())
            });
            (holding, release)
        }
    }

    fn tell(user: i64) -> impl FnOnce(&mut Transition<'_>) -> Result<(), Failure> + Send {
        move |transition| transition.tell(Change::UserChanged(UserId(user)))
    }

    fn execute(
        sql: &'static str,
    ) -> impl FnOnce(&mut Transition<'_>) -> Result<(), Failure> + Send {
        move |transition| Ok(transition.connection.execute_batch(sql)?)
    }

    #[tokio::test]
    async fn a_full_disk_is_an_outage_that_ends_when_there_is_room() {
        const FILL: &str = "INSERT INTO countersign_change (kind, origin, at)
                            VALUES (hex(zeroblob(100000)), 0, unixepoch() * 1000)";
        let desk = Desk::new();
        desk.writer.write(tell(1)).await.unwrap();
        let full = "PRAGMA max_page_count = 1";
        desk.writer.write(execute(full)).await.unwrap();
        let (filled, small) =
            tokio::join!(desk.writer.write(execute(FILL)), desk.writer.write(tell(2)));
        assert!(
            matches!(filled, Err(StoreError::Unavailable(_))),
            "{filled:?}"
        );
        assert!(small.is_ok() == (desk.rows() == 2), "{small:?}");
        let rows = desk.rows();

        desk.writer
            .write(execute("PRAGMA max_page_count = 100000"))
            .await
            .unwrap();
        desk.writer.write(execute(FILL)).await.unwrap();
        assert_eq!(desk.rows(), rows + 1);
    }

    #[tokio::test]
    async fn a_transition_that_fails_undoes_itself_alone() {
        let mut desk = Desk::new();
        let (holding, release) = desk.hold();
        let failing = desk.writer.write(|transition| {
            transition.tell(Change::KeysChanged)?;
            Err::<(), _>(Failure::corrupt("a row that cannot be"))
        });
        drop(release);
        let (_, one, failed, two) = tokio::join!(
            holding,
            desk.writer.write(tell(1)),
            failing,
            desk.writer.write(tell(2))
        );
        assert!(one.is_ok() && two.is_ok());
        assert!(matches!(failed, Err(StoreError::Corrupt(_))), "{failed:?}");
        assert_eq!(desk.rows(), 2);
        let expected = [1, 2].map(|user| Change::UserChanged(UserId(user)));
        assert_eq!(desk.told_of_users(), expected);
    }

    #[tokio::test]
    async fn when_the_transaction_is_lost_nobody_is_told_it_was_kept() {
        let mut desk = Desk::new();
        let (before, lost, after) = tokio::join!(
            desk.writer.write(tell(1)),
            // What SQLite does by itself after some errors.
            desk.writer.write(|transition| {
                transition.connection.execute_batch("ROLLBACK")?;
                Err::<(), _>(Failure::unavailable("no memory"))
            }),
            desk.writer.write(tell(2)),
        );
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        let kept = [before, after]
            .iter()
            .filter(|answer| answer.is_ok())
            .count();
        assert_eq!(desk.rows(), i64::try_from(kept).unwrap());
        desk.writer.write(tell(3)).await.unwrap();
        assert_eq!(desk.told_of_users().len(), kept + 1);
    }

    #[tokio::test]
    async fn a_transition_that_panics_takes_nobody_with_it_for_good() {
        let desk = Desk::new();
        let panicked = desk
            .writer
            .write(|_| -> Result<(), Failure> { panic!("on purpose") })
            .await;
        assert!(
            matches!(panicked, Err(StoreError::Unavailable(_))),
            "{panicked:?}"
        );
        desk.writer.write(tell(1)).await.unwrap();
        assert_eq!(desk.rows(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let desk = Desk::new();
        let (holding, release) = desk.hold();
        let mut holding = std::pin::pin!(holding);
        assert!(poll_once(holding.as_mut()).is_none());
        let mut waiting = Vec::new();
        let refused = loop {
            let mut call = Box::pin(desk.writer.write(tell(1)));
            match poll_once(call.as_mut()) {
                None => waiting.push(call),
                Some(answer) => break answer,
            }
        };
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        assert!(
            (QUEUE - 1..=QUEUE + GROUP).contains(&waiting.len()),
            "{}",
            waiting.len()
        );
        drop(release);
        holding.await.unwrap();
        for call in waiting {
            call.await.unwrap();
        }
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn old_rows_of_the_change_feed_are_pruned_a_few_at_a_time() {
        let desk = Desk::new();
        let old = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
                   INSERT INTO countersign_change (kind, origin, at)
                   SELECT 'keys_changed', 0, (unixepoch() - 24 * 60 * 60 - 1) * 1000 FROM n";
        desk.writer.write(execute(old)).await.unwrap();
        desk.writer.write(tell(1)).await.unwrap();
        let left = desk.rows();
        assert!((80..100).contains(&left), "{left}");
        for _ in 0..8 {
            desk.writer.write(tell(1)).await.unwrap();
        }
        assert_eq!(desk.rows(), 9);
    }
}
