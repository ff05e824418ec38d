//! Everything in one SQLite file.
//!
//! Writes go to one thread ([`writer`]), which makes a group of them durable at once; reads are done
//! where they are asked for ([`readers`]); what other processes change is looked for by another
//! thread ([`feed`]). The statements stand in [`users`], [`sessions`], [`accounts`] (which are both),
//! [`site`] (of the Django site whose tables these are), [`keys`] and [`throttle`], one function for each
//! method of the port.

mod accounts;
mod audit;
mod cut_off;
mod datetime;
mod failure;
mod feed;
mod file;
mod keys;
mod mail;
mod mailed_tokens;
mod moved;
mod moving;
mod names;
mod readers;
mod registrations;
mod rows;
mod schema;
mod sessions;
mod site;
mod statements;
mod survey;
mod throttle;
mod users;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::audit::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};
use countersign_core::error::StoreError;
use countersign_core::mail::{ClaimedMail, Mail, MailAnswer, MailClaim, MailOutcome, MailWaiting};
use countersign_core::mailed_token::{MailedTokenId, Registration, StoredToken};
use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndedSession, Session, SessionEnd, SessionId};
use countersign_core::store::{
    AccountChange, AccountChanged, CreateUserError, EmailOutcome, EmailProof, EndedAt, IssueToken,
    NotedNames, OpenOutcome, OpenSession, PasswordChange, PasswordOutcome, PasswordReset, Powers,
    Register, RegisterOutcome, RegistrationOutcome, ResetOutcome, Rotation, SealedSigningKey,
    SessionQuery, SessionSweep, Store, Swept, TakeOver, TakeOverOutcome, UserQuery, Watcher,
    Watchers,
};
use countersign_core::survey::Survey;
use countersign_core::throttle::{AttemptOutcome, Refund, Reservation, ThrottleKey};
use countersign_core::user::{Credentials, Email, NewUser, ProfileChange, User, UserId};
use jiff::Timestamp;

use self::failure::Failure;
use self::feed::Feed;
use self::file::{DatabaseFile, Role};
pub(crate) use self::moving::Source;
use self::readers::Readers;
use self::statements::Statements;
use self::writer::{Transition, Writer};
use crate::user_table::{TableFacts, UserTable};
use crate::versions::{Migrations, SchemaVersions};

/// Where the database is and how it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// The database file. Databases in memory (`:memory:`) are not supported.
    pub path: PathBuf,
    /// How long a transition waits while another process holds the database locked. Default: 5 s.
    pub timeout: Duration,
    /// How many connections answer reads. Default: one for each core.
    pub readers: usize,
    /// Whether the file is made, readable by its owner only, if there is none. Default: true.
    pub create: bool,
    /// What is done about a database of an older schema version. Default: it is migrated.
    pub migrations: Migrations,
    /// Where users stand. Default: in Django's `auth_user`.
    pub users: UserTable,
}

impl SqliteOptions {
    /// The defaults, for the database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            timeout: Duration::from_secs(5),
            readers: thread::available_parallelism().map_or(1, usize::from),
            create: true,
            migrations: Migrations::Apply,
            users: UserTable::default(),
        }
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`readers`](Self::readers).
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// Sets [`create`](Self::create).
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets [`migrations`](Self::migrations).
    #[must_use]
    pub fn migrations(mut self, migrations: Migrations) -> Self {
        self.migrations = migrations;
        self
    }

    /// Sets [`users`](Self::users).
    #[must_use]
    pub fn users(mut self, users: UserTable) -> Self {
        self.users = users;
        self
    }
}

/// A store in one SQLite file: for any number of processes on one machine.
///
/// What it answers is on disk (write-ahead log, `synchronous=FULL`). While the file is away, locked
/// by another process, read-only or the disk is full, it answers [`StoreError::Unavailable`]; when
/// that is over it goes on by itself.
///
/// Dropping it ends its threads, after what has been asked of it is done. [`open`](Self::open),
/// [`migrate`](Self::migrate) and dropping wait for the disk.
#[derive(Debug)]
pub struct SqliteStore {
    // Dropped in this order: the connection that closes last copies the log into the database and
    // deletes it, which only one that may write can do.
    feed: Feed,
    readers: Arc<Readers>,
    writer: Writer,
    watchers: Arc<Watchers>,
    sql: Arc<Statements>,
}

impl SqliteStore {
    /// Opens the database, and makes and migrates it as the options say.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened or made, is locked for longer than
    /// the timeout, is of a schema version that the options or this program refuse, or has no users
    /// table that can be used; [`StoreError::Corrupt`] if it is no database.
    pub fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        Ok(Self::open_file(options)?)
    }

    fn open_file(options: &SqliteOptions) -> Result<Self, Failure> {
        let path = file::absolute(&options.path)?;
        match options.migrations {
            Migrations::Apply => {
                migrate(&path, options)?;
            }
            Migrations::Require => {}
        }
        let file = Arc::new(DatabaseFile::new(path, options.timeout));
        let attachment = file.attach(Role::Writer)?;
        // Distinguishes this store's rows in the change feed from those of others.
        let origin = attachment
            .connection
            .query_row("SELECT random()", [], |row| row.get(0))?;
        let sql = Arc::new(Statements::read(&attachment.connection, &options.users)?);
        let watchers = Arc::new(Watchers::default());
        let readers = Arc::new(Readers::new(Arc::clone(&file), options.readers));
        let feed = Feed::start(
            Arc::clone(&file),
            Arc::clone(&readers),
            Arc::clone(&watchers),
            origin,
        )?;
        let writer = Writer::start(file, attachment, Arc::clone(&watchers), origin)
            .map_err(|error| feed::no_thread(&error))?;
        Ok(Self {
            feed,
            readers,
            writer,
            watchers,
            sql,
        })
    }

    /// Brings the database to the schema version that this program needs, whatever
    /// [`SqliteOptions::migrations`] says, and makes it if there is none and
    /// [`SqliteOptions::create`] allows. Gives the version that it had and the one that it has.
    ///
    /// Safe while others use the database, and when several processes do it at once.
    ///
    /// # Errors
    /// As for [`open`](Self::open). A database that was not migrated was not changed.
    pub fn migrate(options: &SqliteOptions) -> Result<SchemaVersions, StoreError> {
        let path = file::absolute(&options.path)?;
        Ok(SchemaVersions {
            current: migrate(&path, options)?,
            wanted: schema::WANTED,
        })
    }

    /// Looks at the users of a database, which may be Django's alone, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no such file, or no users table in it that can be used.
    pub fn survey(options: &SqliteOptions, survey: &mut Survey) -> Result<TableFacts, StoreError> {
        let path = file::absolute(&options.path)?;
        let connection = file::connect(&path, Role::Reader, options.timeout)?;
        Ok(survey::read(&connection, &options.users, survey)?)
    }

    /// The schema version of a database and the one that this program needs. Changes nothing; a
    /// file that does not exist has version 0.
    ///
    /// # Errors
    /// As for [`open`](Self::open), except that any version is answered.
    /// [`StoreError::Unavailable`] also if its users have moved.
    pub fn schema_versions(options: &SqliteOptions) -> Result<SchemaVersions, StoreError> {
        let path = file::absolute(&options.path)?;
        if !file::exists(&path)? {
            return Ok(SchemaVersions {
                current: 0,
                wanted: schema::WANTED,
            });
        }
        let connection = file::connect(&path, Role::Reader, options.timeout)?;
        moved::refuse(&connection)?;
        Ok(schema::versions(&connection)?)
    }
}

fn migrate(path: &Path, options: &SqliteOptions) -> Result<u32, Failure> {
    if options.create {
        file::create(path)?;
    }
    let connection = file::connect(path, Role::Writer, options.timeout)?;
    schema::migrate(&connection, &options.users, options.timeout)
}

impl SqliteStore {
    /// Runs a transition that reaches into the users table.
    async fn write<F, T>(&self, transition: F) -> Result<T, StoreError>
    where
        F: FnOnce(&mut Transition<'_>, &Statements) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let sql = Arc::clone(&self.sql);
        self.writer
            .write(move |in_group| transition(in_group, &sql))
            .await
    }
}

/// Lets a database be used again that had moved. Gives where it had gone.
pub(crate) fn reopen(options: &SqliteOptions) -> Result<Option<String>, StoreError> {
    Ok(moving::reopen(options)?)
}

#[async_trait]
impl Store for SqliteStore {
    async fn check(&self) -> Result<(), StoreError> {
        self.readers.read(schema::require)?;
        if !self.feed.is_alive() {
            let why = "what other processes change cannot be read".to_owned();
            return Err(StoreError::Unavailable(why));
        }
        self.writer
            .write(|transition| schema::note_check(transition.connection))
            .await
    }

    fn watch(&self, watcher: &Arc<dyn Watcher>) {
        self.watchers.add(watcher);
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.readers
            .read(|connection| users::find(connection, &self.sql, id))
    }

    async fn find_credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError> {
        self.readers
            .read(|connection| users::credentials(connection, &self.sql, username))
    }

    async fn find_verified(&self, address: &Email) -> Result<Option<Credentials>, StoreError> {
        self.readers
            .read(|connection| users::verified(connection, &self.sql, &address.folded()))
    }

    async fn find_by_email(
        &self,
        address: &Email,
        most: u32,
    ) -> Result<Vec<Credentials>, StoreError> {
        self.readers
            .read(|connection| users::by_email(connection, &self.sql, address, most))
    }

    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError> {
        self.readers
            .read(|connection| users::list(connection, &self.sql, query))
    }

    async fn sample_passwords(&self, ends: u32) -> Result<Vec<EncodedPassword>, StoreError> {
        self.readers
            .read(|connection| users::sample_passwords(connection, &self.sql, ends))
    }

    fn is_named_by_email(&self) -> bool {
        self.sql.users.is_named_by_email()
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        self.readers
            .read(|connection| users::any(connection, &self.sql))
    }

    async fn create_user(&self, user: &NewUser, trail: &Trail) -> Result<User, CreateUserError> {
        let (user, trail) = (user.clone(), trail.clone());
        self.write(move |transition, sql| users::create(transition, sql, &user, &trail))
            .await?
    }

    async fn note_names(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<NotedNames, StoreError> {
        self.write(move |transition, sql| names::note(transition.connection, sql, after, limit))
            .await
    }

    async fn update_profile(
        &self,
        id: UserId,
        change: &ProfileChange,
        trail: &Trail,
    ) -> Result<Option<User>, StoreError> {
        let (change, trail) = (change.clone(), trail.clone());
        self.write(move |transition, sql| {
            users::update_profile(transition, sql, id, &change, &trail)
        })
        .await
    }

    async fn change_account(
        &self,
        change: &AccountChange,
    ) -> Result<Option<AccountChanged>, StoreError> {
        let change = change.clone();
        self.write(move |transition, sql| accounts::change_account(transition, sql, &change))
            .await
    }

    async fn change_password(
        &self,
        change: &PasswordChange,
    ) -> Result<PasswordOutcome, StoreError> {
        let change = change.clone();
        self.write(move |transition, sql| accounts::change_password(transition, sql, &change))
            .await
    }

    async fn delete_user(
        &self,
        id: UserId,
        ending: EndedAt,
        trail: &Trail,
    ) -> Result<Option<Vec<EndedSession>>, StoreError> {
        let trail = trail.clone();
        self.write(move |transition, sql| accounts::delete(transition, sql, id, ending, &trail))
            .await
    }

    async fn open_session(&self, opening: &OpenSession) -> Result<OpenOutcome, StoreError> {
        let opening = opening.clone();
        self.write(move |transition, sql| accounts::open(transition, sql, &opening))
            .await
    }

    async fn take_over(&self, takeover: &TakeOver) -> Result<TakeOverOutcome, StoreError> {
        let takeover = takeover.clone();
        self.write(move |transition, sql| site::take_over(transition, sql, &takeover))
            .await
    }

    async fn find_powers(&self, user: UserId, most: u32) -> Result<Powers, StoreError> {
        self.readers
            .read(|connection| site::powers(connection, &self.sql, user, most))
    }

    async fn find_session(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<User>)>, StoreError> {
        self.readers
            .read(|connection| sessions::find(connection, &self.sql, id))
    }

    async fn list_sessions(&self, query: &SessionQuery) -> Result<Vec<Session>, StoreError> {
        self.readers
            .read(|connection| sessions::list(connection, *query))
    }

    async fn ended_since(&self, since: Timestamp) -> Result<Vec<EndedSession>, StoreError> {
        self.readers
            .read(|connection| sessions::ended_since(connection, since))
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        let rotation = *rotation;
        self.write(move |transition, sql| sessions::rotate(transition.connection, sql, rotation))
            .await
    }

    async fn end_session(
        &self,
        id: SessionId,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<bool, StoreError> {
        let trail = trail.clone();
        self.writer
            .write(move |transition| {
                let ended = sessions::end(transition, id, end, &trail)?;
                if ended.is_some() {
                    audit::record(transition.connection, &trail.entries)?;
                }
                Ok(ended.is_some())
            })
            .await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        spared: Option<SessionId>,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<Vec<EndedSession>, StoreError> {
        let trail = trail.clone();
        self.writer
            .write(move |transition| {
                audit::record(transition.connection, &trail.entries)?;
                sessions::end_all(transition, user, spared, end, &trail)
            })
            .await
    }

    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError> {
        self.readers.read(keys::all)
    }

    async fn swap_signing_keys(
        &self,
        seen: &[SealedSigningKey],
        new: &[SealedSigningKey],
        trail: &Trail,
    ) -> Result<Vec<SealedSigningKey>, StoreError> {
        let (seen, new, trail) = (seen.to_vec(), new.to_vec(), trail.clone());
        self.writer
            .write(move |transition| keys::swap(transition, &seen, &new, &trail))
            .await
    }

    async fn take_upkeep_turn(&self, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.writer
            .write(move |transition| schema::take_upkeep_turn(transition.connection, now, until))
            .await
    }

    async fn claim_mail(&self, claim: &MailClaim) -> Result<Vec<ClaimedMail>, StoreError> {
        let claim = *claim;
        self.writer
            .write(move |transition| mail::claim(transition.connection, &claim))
            .await
    }

    async fn settle_mail(
        &self,
        claimed: &ClaimedMail,
        outcome: MailOutcome,
    ) -> Result<bool, StoreError> {
        let claimed = claimed.clone();
        self.writer
            .write(move |transition| mail::settle(transition.connection, &claimed, outcome))
            .await
    }

    async fn count_mail(&self) -> Result<MailWaiting, StoreError> {
        self.readers.read(mail::count)
    }

    async fn queue_mail(&self, mail: &Mail, trail: &Trail) -> Result<(), StoreError> {
        let (mail, entries) = (mail.clone(), trail.entries.clone());
        self.writer
            .write(move |transition| {
                mail::queue(transition.connection, Some(&mail))?;
                audit::record(transition.connection, &entries)
            })
            .await
    }

    async fn answer_mail(
        &self,
        claimed: &ClaimedMail,
        answers: &[MailAnswer],
    ) -> Result<bool, StoreError> {
        let (claimed, answers) = (claimed.clone(), answers.to_vec());
        self.writer
            .write(move |transition| {
                mailed_tokens::answer_mail(transition.connection, &claimed, &answers)
            })
            .await
    }

    async fn issue_token(&self, issue: &IssueToken) -> Result<bool, StoreError> {
        let issue = issue.clone();
        self.writer
            .write(move |transition| mailed_tokens::issue(transition.connection, &issue))
            .await
    }

    async fn find_mailed_token(
        &self,
        id: MailedTokenId,
    ) -> Result<Option<StoredToken>, StoreError> {
        self.readers
            .read(|connection| mailed_tokens::find(connection, &self.sql, id))
    }

    async fn reset_password(&self, reset: &PasswordReset) -> Result<ResetOutcome, StoreError> {
        let reset = reset.clone();
        self.write(move |transition, sql| mailed_tokens::reset_password(transition, sql, &reset))
            .await
    }

    async fn verify_email(&self, proof: &EmailProof) -> Result<EmailOutcome, StoreError> {
        let proof = proof.clone();
        self.write(move |transition, sql| mailed_tokens::verify_email(transition, sql, &proof))
            .await
    }

    async fn register(&self, register: &Register) -> Result<RegisterOutcome, StoreError> {
        let register = register.clone();
        self.write(move |transition, sql| {
            registrations::register(transition.connection, sql, &register)
        })
        .await
    }

    async fn find_registrations(
        &self,
        address: &Email,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        self.readers
            .read(|connection| registrations::with_email(connection, address, now, most))
    }

    async fn complete_registration(
        &self,
        id: MailedTokenId,
        now: Timestamp,
        trail: &Trail,
    ) -> Result<RegistrationOutcome, StoreError> {
        let trail = trail.clone();
        self.write(move |transition, sql| registrations::complete(transition, sql, id, now, &trail))
            .await
    }

    async fn sweep_mailed_tokens(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.writer
            .write(move |transition| mailed_tokens::sweep(transition.connection, now, most))
            .await
    }

    async fn sweep_sessions(&self, sweep: &SessionSweep) -> Result<Swept, StoreError> {
        let sweep = *sweep;
        self.writer
            .write(move |transition| sessions::sweep(transition.connection, &sweep))
            .await
    }
    async fn reserve_attempt(
        &self,
        reservations: &[Reservation],
        now: Timestamp,
    ) -> Result<AttemptOutcome, StoreError> {
        let refused = self
            .readers
            .read(|connection| throttle::refuse(connection, reservations, now))?;
        if let Some(refused) = refused {
            return Ok(refused);
        }
        let reservations = reservations.to_vec();
        self.writer
            .write(move |transition| throttle::reserve(transition.connection, &reservations, now))
            .await
    }

    async fn refund_attempt(&self, refunds: &[Refund], now: Timestamp) -> Result<(), StoreError> {
        let refunds = refunds.to_vec();
        self.writer
            .write(move |transition| throttle::refund(transition.connection, &refunds, now))
            .await
    }

    async fn forget_attempts(&self, keys: &[ThrottleKey], trail: &Trail) -> Result<(), StoreError> {
        let (keys, trail) = (keys.to_vec(), trail.clone());
        self.writer
            .write(move |transition| throttle::forget(transition.connection, &keys, &trail))
            .await
    }

    async fn sweep_throttles(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.writer
            .write(move |transition| throttle::sweep(transition.connection, now, most))
            .await
    }

    async fn record_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let entries = entries.to_vec();
        self.writer
            .write(move |transition| audit::record(transition.connection, &entries))
            .await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<RecordedEntry>, StoreError> {
        self.readers
            .read(|connection| audit::list(connection, query))
    }

    async fn audit_end(&self) -> Result<AuditPosition, StoreError> {
        self.readers.read(audit::end)
    }

    async fn follow_audit(
        &self,
        from: AuditPosition,
        most: u32,
    ) -> Result<Vec<(AuditPosition, RecordedEntry)>, StoreError> {
        self.readers
            .read(|connection| audit::follow(connection, from, most))
    }

    async fn sweep_audit(&self, before: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.writer
            .write(move |transition| audit::sweep(transition.connection, before, most))
            .await
    }
}
