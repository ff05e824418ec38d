//! Everything in a PostgreSQL database, for any number of nodes.
//!
//! Transitions are a statement each, on a connection of their own while they last ([`writer`]); those
//! of accounts lock the account first ([`accounts`]). Reads share two connections ([`readers`]), and
//! one hears of what other nodes change ([`feed`], [`changes`]). The statements stand in [`users`],
//! [`sessions`], [`accounts`], [`site`] (of the Django site whose tables these are), [`keys`] and
//! [`throttle`], one function for each method of the port.

mod accounts;
mod address;
mod audit;
mod changes;
mod clock;
mod cut_off;
mod failure;
mod feed;
mod instant;
mod keys;
mod link;
mod mail;
mod mailed_tokens;
mod moving;
mod names;
mod origins;
mod readers;
mod registrations;
mod rows;
mod schema;
mod sessions;
mod site;
mod statements;
mod survey;
mod throttle;
mod tls;
mod users;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::audit::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};
use countersign_core::clock::{Clock, SystemRandomness};
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

use self::address::Address;
pub use self::address::AddressError;
use self::failure::Failure;
use self::feed::{Feed, Hearing};
use self::link::{Connector, Link};
pub(crate) use self::moving::{Target, Uncommitted};
use self::origins::Origins;
use self::readers::Readers;
use self::statements::Statements;
use self::writer::Writer;
use crate::user_table::{TableFacts, UserTable};
use crate::versions::{Migrations, SchemaVersions};

/// Where the database is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    address: Address,
    listen_address: Option<Address>,
    /// How long an answer may take, waiting included. Default: 5 s.
    pub timeout: Duration,
    /// How many transitions run at once, on a connection each. Three more connections are used for
    /// reading and listening. Default: four for each core.
    pub pool_size: usize,
    /// Whether a pooler is in between that gives each transaction another connection, such as
    /// PgBouncer with `pool_mode = transaction`. Then statements are not kept prepared, the server
    /// sets no limits to them, and other nodes are not listened to but looked for every 50 ms,
    /// unless there is a [`listen_url`](Self::listen_url). Default: false.
    pub pooled: bool,
    /// How old what is known of a user may be when another program changes it in the same tables.
    /// Not looked for more often than once a second. Default: 1 s.
    pub users_age: Duration,
    /// What is done about a database of an older schema version. Default: it is migrated.
    pub migrations: Migrations,
    /// Where users stand. Default: in Django's `auth_user`.
    pub users: UserTable,
}

impl PostgresOptions {
    /// The defaults, for the database at a `postgres://` URL.
    ///
    /// It is what tokio-postgres reads, with `sslmode` one of `disable`, `prefer`, `require` and
    /// `verify-full`, and `sslrootcert`, the file of the authority that vouches for the server. A
    /// database on this machine is spoken to in the open, any other with `verify-full`; the open, or
    /// what may be the open, is refused there.
    ///
    /// # Errors
    /// [`AddressError`] if the URL cannot be read or is refused.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        Ok(Self {
            address: url.parse()?,
            listen_address: None,
            timeout: Duration::from_secs(5),
            pool_size: 4 * thread::available_parallelism().map_or(1, usize::from),
            pooled: false,
            users_age: Duration::from_secs(1),
            migrations: Migrations::Apply,
            users: UserTable::default(),
        })
    }

    /// Sets the URL, past a pooler, at which other nodes can be listened to.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn listen_url(mut self, url: &str) -> Result<Self, AddressError> {
        self.listen_address = Some(url.parse()?);
        Ok(self)
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`pool_size`](Self::pool_size).
    #[must_use]
    pub fn pool_size(mut self, pool_size: usize) -> Self {
        self.pool_size = pool_size;
        self
    }

    /// Sets [`pooled`](Self::pooled).
    #[must_use]
    pub fn pooled(mut self, pooled: bool) -> Self {
        self.pooled = pooled;
        self
    }

    /// Sets [`users_age`](Self::users_age).
    #[must_use]
    pub fn users_age(mut self, users_age: Duration) -> Self {
        self.users_age = users_age;
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

    fn connector(&self, origins: &Arc<Origins>) -> Result<Connector, Failure> {
        let origins = Arc::clone(origins);
        Connector::new(&self.address, self.timeout, self.pooled, origins)
    }

    /// The way to a connection that hears, and how it does.
    fn hearing(&self, origins: &Arc<Origins>) -> Result<(Connector, Hearing), Failure> {
        let Some(address) = &self.listen_address else {
            let hearing = if self.pooled {
                Hearing::Poll
            } else {
                Hearing::Listen
            };
            return Ok((self.connector(origins)?, hearing));
        };
        let connector = Connector::new(address, self.timeout, false, Arc::clone(origins))?;
        Ok((connector, Hearing::Listen))
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let origins = Arc::new(Origins::new(&SystemRandomness));
        self.connector(&origins)?.connect().await
    }
}

/// The address, without the password.
impl fmt::Display for PostgresOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(formatter)
    }
}

/// A store in a PostgreSQL database of version 13 or later: for any number of nodes.
///
/// What it answers is durable (`synchronous_commit`). While the database cannot be reached, is
/// read-only or too slow, it answers [`StoreError::Unavailable`]; when that is over it goes on by
/// itself.
///
/// It lives on the Tokio runtime that it was opened on. A transition that was begun is finished even
/// if its caller goes away.
#[derive(Debug)]
pub struct PostgresStore {
    feed: Feed,
    readers: Readers,
    writer: Writer,
    watchers: Arc<Watchers>,
    sql: Arc<Statements>,
}

impl PostgresStore {
    /// Opens the database, and migrates it as the options say.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be reached, is of a schema version that the options
    /// or this program refuse, has no users table that can be used, or does not make anything durable.
    pub async fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self::open_database(options).await?)
    }

    async fn open_database(options: &PostgresOptions) -> Result<Self, Failure> {
        let link = options.connect().await?;
        match options.migrations {
            Migrations::Apply => {
                schema::migrate(&link, &options.users).await?;
            }
            Migrations::Require => {}
        }
        schema::require(&link).await?;
        let sql = Arc::new(Statements::read(&link, &options.users).await?);
        drop(link);
        let watchers = Arc::new(Watchers::default());
        let origins = Arc::new(Origins::new(&SystemRandomness));
        let (ears, hearing) = options.hearing(&origins)?;
        let feed = Feed::start(
            ears,
            hearing,
            options.users_age,
            Arc::clone(&watchers),
            Arc::clone(&origins),
        )
        .await?;
        let readers = Readers::new(options.connector(&origins)?);
        let writer = Writer::new(
            options.connector(&origins)?,
            options.pool_size,
            Arc::clone(&watchers),
            origins,
            Arc::clone(&sql),
        )?;
        Ok(Self {
            feed,
            readers,
            writer,
            watchers,
            sql,
        })
    }

    /// A clock that follows the database's: what all nodes decide by, whatever their own show.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.feed.clock()
    }

    /// Brings the database to the schema version that this program needs, whatever
    /// [`PostgresOptions::migrations`] says. Gives the version that it had and the one that it has.
    ///
    /// Safe while others use the database, and when several nodes do it at once.
    ///
    /// # Errors
    /// As for [`open`](Self::open). A database that was not migrated was not changed.
    pub async fn migrate(options: &PostgresOptions) -> Result<SchemaVersions, StoreError> {
        let link = options.connect().await?;
        Ok(schema::migrate(&link, &options.users).await?)
    }

    /// Looks at the users of a database, which may be Django's alone, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be reached, or has no users table that can be used.
    pub async fn survey(
        options: &PostgresOptions,
        survey: &mut Survey,
    ) -> Result<TableFacts, StoreError> {
        let link = options.connect().await?;
        Ok(survey::read(&link, &options.users, survey).await?)
    }

    /// The schema version of a database and the one that this program needs. Changes nothing; a
    /// database without tables of ours has version 0.
    ///
    /// # Errors
    /// As for [`open`](Self::open), except that any version is answered.
    pub async fn schema_versions(options: &PostgresOptions) -> Result<SchemaVersions, StoreError> {
        let link = options.connect().await?;
        Ok(schema::versions(&link).await?)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn check(&self) -> Result<(), StoreError> {
        schema::check(&self.readers).await?;
        if !self.feed.is_alive() {
            let why = "what other nodes change is not heard of".to_owned();
            return Err(StoreError::Unavailable(why));
        }
        self.writer
            .write((), |link, _, ()| Box::pin(schema::note_check(link)))
            .await
    }

    fn watch(&self, watcher: &Arc<dyn Watcher>) {
        self.watchers.add(watcher);
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        users::find(&self.readers, &self.sql, id).await
    }

    async fn find_credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError> {
        users::credentials(&self.readers, &self.sql, username).await
    }

    async fn find_verified(&self, address: &Email) -> Result<Option<Credentials>, StoreError> {
        users::verified(&self.readers, &self.sql, address).await
    }

    async fn find_by_email(
        &self,
        address: &Email,
        most: u32,
    ) -> Result<Vec<Credentials>, StoreError> {
        users::by_email(&self.readers, &self.sql, address, most).await
    }

    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError> {
        users::list(&self.readers, &self.sql, query).await
    }

    async fn sample_passwords(&self, ends: u32) -> Result<Vec<EncodedPassword>, StoreError> {
        users::sample_passwords(&self.readers, &self.sql, ends).await
    }

    fn is_named_by_email(&self) -> bool {
        self.sql.users.is_named_by_email()
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        users::any(&self.readers, &self.sql).await
    }

    async fn create_user(&self, user: &NewUser, trail: &Trail) -> Result<User, CreateUserError> {
        self.writer
            .write((user.clone(), trail.clone()), |link, sql, (user, trail)| {
                Box::pin(users::create(link, sql, user, trail))
            })
            .await?
    }

    async fn note_names(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<NotedNames, StoreError> {
        self.writer
            .write((after, limit), |link, sql, (after, limit)| {
                Box::pin(names::note(link, sql, *after, *limit))
            })
            .await
    }

    async fn update_profile(
        &self,
        id: UserId,
        change: &ProfileChange,
        trail: &Trail,
    ) -> Result<Option<User>, StoreError> {
        self.writer
            .write(
                (id, change.clone(), trail.clone()),
                |link, sql, (id, change, trail)| {
                    Box::pin(users::update_profile(link, sql, *id, change, trail))
                },
            )
            .await
    }

    async fn change_account(
        &self,
        change: &AccountChange,
    ) -> Result<Option<AccountChanged>, StoreError> {
        self.writer
            .write(change.clone(), |link, sql, change| {
                Box::pin(accounts::change_account(link, sql, change))
            })
            .await
    }

    async fn change_password(
        &self,
        change: &PasswordChange,
    ) -> Result<PasswordOutcome, StoreError> {
        self.writer
            .write(change.clone(), |link, sql, change| {
                Box::pin(accounts::change_password(link, sql, change))
            })
            .await
    }

    async fn delete_user(
        &self,
        id: UserId,
        ending: EndedAt,
        trail: &Trail,
    ) -> Result<Option<Vec<EndedSession>>, StoreError> {
        self.writer
            .write(
                (id, ending, trail.clone()),
                |link, sql, (id, ending, trail)| {
                    Box::pin(accounts::delete(link, sql, *id, *ending, trail))
                },
            )
            .await
    }

    async fn open_session(&self, opening: &OpenSession) -> Result<OpenOutcome, StoreError> {
        self.writer
            .write(opening.clone(), |link, sql, opening| {
                Box::pin(accounts::open(link, sql, opening))
            })
            .await
    }

    async fn take_over(&self, takeover: &TakeOver) -> Result<TakeOverOutcome, StoreError> {
        self.writer
            .write(takeover.clone(), |link, sql, takeover| {
                Box::pin(site::take_over(link, sql, takeover))
            })
            .await
    }

    async fn find_powers(&self, user: UserId, most: u32) -> Result<Powers, StoreError> {
        site::powers(&self.readers, &self.sql, user, most).await
    }

    async fn find_session(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<User>)>, StoreError> {
        sessions::find(&self.readers, &self.sql, id).await
    }

    async fn list_sessions(&self, query: &SessionQuery) -> Result<Vec<Session>, StoreError> {
        sessions::list(&self.readers, *query).await
    }

    async fn ended_since(&self, since: Timestamp) -> Result<Vec<EndedSession>, StoreError> {
        sessions::ended_since(&self.readers, since).await
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        self.writer
            .write(*rotation, |link, sql, rotation| {
                Box::pin(sessions::rotate(link, sql, rotation))
            })
            .await
    }

    async fn end_session(
        &self,
        id: SessionId,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<bool, StoreError> {
        self.writer
            .write((id, end, trail.clone()), |link, _, (id, end, trail)| {
                Box::pin(sessions::end(link, *id, *end, trail))
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
        self.writer
            .write(
                (user, spared, end, trail.clone()),
                |link, sql, (user, spared, end, trail)| {
                    Box::pin(accounts::end_sessions(
                        link, sql, *user, *spared, *end, trail,
                    ))
                },
            )
            .await
    }

    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError> {
        keys::all(&self.readers).await
    }

    async fn swap_signing_keys(
        &self,
        seen: &[SealedSigningKey],
        new: &[SealedSigningKey],
        trail: &Trail,
    ) -> Result<Vec<SealedSigningKey>, StoreError> {
        self.writer
            .write(
                (seen.to_vec(), new.to_vec(), trail.clone()),
                |link, _, (seen, new, trail)| Box::pin(keys::swap(link, seen, new, trail)),
            )
            .await
    }

    async fn take_upkeep_turn(&self, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.writer
            .write((now, until), |link, _, (now, until)| {
                Box::pin(schema::take_upkeep_turn(link, *now, *until))
            })
            .await
    }

    async fn claim_mail(&self, claim: &MailClaim) -> Result<Vec<ClaimedMail>, StoreError> {
        self.writer
            .write(*claim, |link, _, claim| Box::pin(mail::claim(link, claim)))
            .await
    }

    async fn settle_mail(
        &self,
        claimed: &ClaimedMail,
        outcome: MailOutcome,
    ) -> Result<bool, StoreError> {
        self.writer
            .write((claimed.clone(), outcome), |link, _, (claimed, outcome)| {
                Box::pin(mail::settle(link, claimed, *outcome))
            })
            .await
    }

    async fn count_mail(&self) -> Result<MailWaiting, StoreError> {
        mail::count(&self.readers).await
    }

    async fn queue_mail(&self, mail: &Mail, trail: &Trail) -> Result<(), StoreError> {
        self.writer
            .write((mail.clone(), trail.clone()), |link, _, (mail, trail)| {
                Box::pin(mail::queue_alone(link, mail, trail))
            })
            .await
    }

    async fn answer_mail(
        &self,
        claimed: &ClaimedMail,
        answers: &[MailAnswer],
    ) -> Result<bool, StoreError> {
        self.writer
            .write(
                (claimed.clone(), answers.to_vec()),
                |link, _, (claimed, answers)| {
                    Box::pin(mailed_tokens::answer_mail(link, claimed, answers))
                },
            )
            .await
    }

    async fn issue_token(&self, issue: &IssueToken) -> Result<bool, StoreError> {
        self.writer
            .write(issue.clone(), |link, _, issue| {
                Box::pin(mailed_tokens::issue(link, issue))
            })
            .await
    }

    async fn find_mailed_token(
        &self,
        id: MailedTokenId,
    ) -> Result<Option<StoredToken>, StoreError> {
        mailed_tokens::find(&self.readers, &self.sql, id).await
    }

    async fn reset_password(&self, reset: &PasswordReset) -> Result<ResetOutcome, StoreError> {
        self.writer
            .write(reset.clone(), |link, sql, reset| {
                Box::pin(mailed_tokens::reset_password(link, sql, reset))
            })
            .await
    }

    async fn verify_email(&self, proof: &EmailProof) -> Result<EmailOutcome, StoreError> {
        self.writer
            .write(proof.clone(), |link, sql, proof| {
                Box::pin(mailed_tokens::verify_email(link, sql, proof))
            })
            .await
    }

    async fn register(&self, register: &Register) -> Result<RegisterOutcome, StoreError> {
        self.writer
            .write(register.clone(), |link, sql, register| {
                Box::pin(registrations::register(link, sql, register))
            })
            .await
    }

    async fn find_registrations(
        &self,
        address: &Email,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        registrations::with_email(&self.readers, address, now, most).await
    }

    async fn complete_registration(
        &self,
        id: MailedTokenId,
        now: Timestamp,
        trail: &Trail,
    ) -> Result<RegistrationOutcome, StoreError> {
        self.writer
            .write((id, now, trail.clone()), |link, sql, (id, now, trail)| {
                Box::pin(registrations::complete(link, sql, *id, *now, trail))
            })
            .await
    }

    async fn sweep_mailed_tokens(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.writer
            .write((now, most), |link, _, (now, most)| {
                Box::pin(mailed_tokens::sweep(link, *now, *most))
            })
            .await
    }

    async fn sweep_sessions(&self, sweep: &SessionSweep) -> Result<Swept, StoreError> {
        self.writer
            .write(*sweep, |link, _, sweep| {
                Box::pin(sessions::sweep(link, sweep))
            })
            .await
    }

    async fn reserve_attempt(
        &self,
        reservations: &[Reservation],
        now: Timestamp,
    ) -> Result<AttemptOutcome, StoreError> {
        let refused = throttle::refuse(&self.readers, reservations, now).await?;
        if let Some(refused) = refused {
            return Ok(refused);
        }
        self.writer
            .write(
                (reservations.to_vec(), now),
                |link, _, (reservations, now)| {
                    Box::pin(throttle::reserve(link, reservations, *now))
                },
            )
            .await
    }

    async fn refund_attempt(&self, refunds: &[Refund], now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .write((refunds.to_vec(), now), |link, _, (refunds, now)| {
                Box::pin(throttle::refund(link, refunds, *now))
            })
            .await
    }

    async fn forget_attempts(&self, keys: &[ThrottleKey], trail: &Trail) -> Result<(), StoreError> {
        self.writer
            .write((keys.to_vec(), trail.clone()), |link, _, (keys, trail)| {
                Box::pin(throttle::forget(link, keys, trail))
            })
            .await
    }

    async fn sweep_throttles(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.writer
            .write((now, most), |link, _, (now, most)| {
                Box::pin(throttle::sweep(link, *now, *most))
            })
            .await
    }

    async fn record_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.writer
            .write(entries.to_vec(), |link, _, entries| {
                Box::pin(audit::record(link, entries))
            })
            .await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<RecordedEntry>, StoreError> {
        audit::list(&self.readers, query).await
    }

    async fn audit_end(&self) -> Result<AuditPosition, StoreError> {
        audit::end(&self.readers).await
    }

    async fn follow_audit(
        &self,
        from: AuditPosition,
        most: u32,
    ) -> Result<Vec<(AuditPosition, RecordedEntry)>, StoreError> {
        audit::follow(&self.readers, from, most).await
    }

    async fn sweep_audit(&self, before: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.writer
            .write((before, most), |link, _, (before, most)| {
                Box::pin(audit::sweep(link, *before, *most))
            })
            .await
    }
}
