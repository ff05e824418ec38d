//! The database file, and whether what a connection holds open still is what lies at its path.
//!
//! A file that is unlinked or renamed while it is open can be written to as before, and what is
//! written there is lost to the next who opens the path. SQLite leaves that to us: whoever writes
//! compares device and inode before and after ([`Attachment::is_in_place`]) and lets go of a file
//! that has gone away. Then everyone opens anew, as soon as there is something to open.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_core::error::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure::Failure;
use super::schema;

/// How long an inline read waits for a lock. In WAL mode readers wait for nobody, unless another
/// process recovers the log or holds the file for itself; and while one waits, so does its runtime.
const READ_PATIENCE: Duration = Duration::from_millis(100);

/// What the log is cut back to when all of it has been copied into the database.
const LOG_SIZE_LIMIT_BYTES: u32 = 64 * 1024 * 1024;

/// Statements that a connection keeps prepared: more than there are.
const STATEMENT_CACHE: usize = 48;

/// Device and inode.
type FileId = (u64, u64);

/// The database file, for all connections of a store.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    timeout: Duration,
    /// Counts how often the file was found to have gone away: a connection of an earlier epoch
    /// holds something else.
    epoch: AtomicU64,
    /// The file that was last found to be whole.
    admitted: Mutex<Option<FileId>>,
    /// Held while a file is read as a whole.
    admitting: Mutex<()>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that writes.
    Writer,
    /// The one that looks for other processes' changes.
    Feed,
    /// One that answers inline.
    Reader,
}

/// An open connection and the files it holds.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) connection: Connection,
    pub(super) epoch: u64,
    /// The database, its log and the log's index. The latter two share the former's fate: a log
    /// that was removed would take writes that no other process sees.
    files: [(PathBuf, FileId); 3],
}

impl DatabaseFile {
    /// The file at `path`, which must be an absolute one.
    pub(super) fn new(path: PathBuf, timeout: Duration) -> Self {
        Self {
            path,
            timeout,
            epoch: AtomicU64::new(0),
            admitted: Mutex::new(None),
            admitting: Mutex::new(()),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Notes that the file that connections of `epoch` hold has gone away.
    pub(super) fn lost(&self, epoch: u64) {
        // Whoever comes second finds it noted.
        let _ = self
            .epoch
            .compare_exchange(epoch, epoch + 1, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Opens the file if it is there, whole, and of the right schema version.
    pub(super) fn attach(&self, role: Role) -> Result<Attachment, Failure> {
        let epoch = self.epoch();
        let before = identify(&self.path)?;
        if role == Role::Writer {
            refuse_other_names(&self.path)?;
        }
        self.admit(role, before)?;
        let connection = connect(&self.path, role, self.timeout)?;
        schema::require(&connection)?;
        if role == Role::Writer {
            schema::keep_write_ahead_log(&connection, self.timeout)?;
        }
        // Having read something, SQLite has the log and its index open too. They lie beside the
        // file that a symbolic link leads to.
        let path = fs::canonicalize(&self.path).map_err(|error| not_there(&self.path, &error))?;
        let identified = |path: PathBuf| identify(&path).map(|id| (path, id));
        let log = identified(beside(&path, "-wal"))?;
        let index = identified(beside(&path, "-shm"))?;
        let attachment = Attachment {
            connection,
            epoch,
            files: [(self.path.clone(), before), log, index],
        };
        if !attachment.is_in_place() {
            return Err(Failure::unavailable("the database file is being replaced"));
        }
        Ok(attachment)
    }

    /// Reads all of a file that took the place of another. SQLite plays the log that it finds beside
    /// a database into it; if it was another database's, the result is damage, better found before
    /// anything is answered from it or written to it.
    fn admit(&self, role: Role, id: FileId) -> Result<(), Failure> {
        if *self.admitted() == Some(id) {
            return Ok(());
        }
        if role == Role::Reader {
            return Err(Failure::unavailable(
                "the database file was replaced and is being read",
            ));
        }
        let _admitting = self
            .admitting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = *self.admitted();
        if before.is_some_and(|before| before != id) {
            let connection = connect(&self.path, Role::Feed, self.timeout)?;
            // Or the damage would be written into the file when this connection closes.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            let verdict: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(Failure::corrupt(format!(
                    "the database file was replaced while its write-ahead log lay beside it, and \
                     does not read as a whole ({verdict}): stop the service and put the file back \
                     without the `-wal` and `-shm` of another"
                )));
            }
        }
        *self.admitted() = Some(id);
        Ok(())
    }

    fn admitted(&self) -> MutexGuard<'_, Option<FileId>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attachment {
    /// Whether the path still leads to what this connection holds.
    pub(super) fn is_in_place(&self) -> bool {
        self.files
            .iter()
            .all(|(path, id)| identify(path).is_ok_and(|there| there == *id))
    }

    /// Copies what only a lost log holds into the database, if the database itself is in place.
    ///
    /// # Errors
    /// If not everything could be copied yet. Then this connection must be kept: it has the only
    /// descriptor of what was acknowledged.
    pub(super) fn rescue_log(&self) -> Result<(), Failure> {
        let [database, log, index] = &self.files;
        let same = |(path, id): &(PathBuf, FileId)| identify(path).is_ok_and(|there| there == *id);
        // Whoever made a new index, or wrote to a new log, knows nothing of ours: too late.
        let index_is_ours = same(index) || !index.0.exists();
        let is_unused = |path: &Path| fs::metadata(path).map_or(true, |there| there.len() == 0);
        if !same(database) || !index_is_ours || same(log) || !is_unused(&log.0) {
            return Ok(());
        }
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        match self.connection.query_row(checkpoint, [], |row| row.get(0)) {
            Ok(false) => tracing::warn!("the write-ahead log was removed; what it held was saved"),
            Ok(true) => {
                let why = "the write-ahead log was removed and is being saved";
                return Err(Failure::unavailable(why));
            }
            Err(error) => tracing::error!(%error, "the write-ahead log was removed and is lost"),
        }
        Ok(())
    }

    /// Which file the database is.
    pub(super) fn id(&self) -> FileId {
        self.files[0].1
    }
}

/// What the caller is told while the file is away.
pub(super) fn gone() -> StoreError {
    StoreError::Unavailable("the database file was removed or replaced".to_owned())
}

/// Makes an absolute path of one that names a file.
///
/// SQLite reads more into some: `:memory:` and the empty path are no files, and `file:` begins a
/// URI with parameters.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let text = path.as_os_str();
    if text.is_empty() || text == ":memory:" || text.as_encoded_bytes().starts_with(b"file:") {
        return Err(Failure::unavailable(format!(
            "`{}` names no file, and databases in memory are not supported: several connections \
             must see the same one",
            path.display()
        )));
    }
    std::path::absolute(path).map_err(|error| not_there(path, &error))
}

/// Makes an empty file that only its owner may read, unless there is one.
pub(super) fn create(path: &Path) -> Result<(), Failure> {
    // POSIX drops all of a process's locks on a file when any descriptor of it is closed. While one
    // thread here still has its own, none that found the file may get as far as SQLite.
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Failure::unavailable(format!("{}: {error}", path.display()))),
    }
}

/// Whether there is anything at `path`.
pub(super) fn exists(path: &Path) -> Result<bool, Failure> {
    path.try_exists().map_err(|error| not_there(path, &error))
}

/// Opens a connection, and never makes a file.
pub(super) fn connect(path: &Path, role: Role, timeout: Duration) -> Result<Connection, Failure> {
    let access = match role {
        Role::Writer => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Role::Feed | Role::Reader => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    // Each connection is used by one thread at a time: no need for SQLite to see to it.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(match role {
        Role::Writer => timeout,
        Role::Feed | Role::Reader => timeout.min(READ_PATIENCE),
    })?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Whoever can write to the file cannot make our statements call functions with side effects.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Or SQLite plans some statements anew for every value bound to them: ten times the cost of
    // reading a session.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // With NORMAL, a power cut could undo a logout that has been answered.
    connection.pragma_update(None, "synchronous", "FULL")?;
    if role == Role::Writer {
        connection.pragma_update_and_check(
            None,
            "journal_size_limit",
            LOG_SIZE_LIMIT_BYTES,
            |_| Ok(()),
        )?;
    }
    Ok(connection)
}

fn identify(path: &Path) -> Result<FileId, Failure> {
    let metadata = fs::metadata(path).map_err(|error| not_there(path, &error))?;
    if !metadata.is_file() {
        return Err(Failure::unavailable(format!(
            "{} is no file",
            path.display()
        )));
    }
    Ok((metadata.dev(), metadata.ino()))
}

/// Refuses a file that has other names (hard links): the log and the locks lie beside the one it is opened
/// by, so who opens it by another name sees neither.
fn refuse_other_names(path: &Path) -> Result<(), Failure> {
    let names = fs::metadata(path)
        .map_err(|error| not_there(path, &error))?
        .nlink();
    if names > 1 {
        return Err(Failure::unavailable(format!(
            "{} has {names} names (hard links), and SQLite keeps its log beside one of them: remove the \
             others",
            path.display()
        )));
    }
    Ok(())
}

fn not_there(path: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(format!("{}: {error}", path.display()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
