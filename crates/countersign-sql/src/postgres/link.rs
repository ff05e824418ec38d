//! One connection to the database.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Buf;
use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use futures_util::future;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, CopyInSink, NoTls, Notification, Row, RowStream,
    Statement,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::failure::Failure;
use super::origins::Origins;
use super::tls;

/// After this long without a sign of life the other side is asked for one.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long a lost connection's statement is waited for to be cancelled.
const CANCELLING: Duration = Duration::from_secs(1);

/// A value for a statement, and the type it has there.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Makes connections.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    timeout: Duration,
    /// Whether statements are prepared once for each connection: behind a pooler there is no
    /// telling which connection one will have.
    prepares: bool,
    origins: Arc<Origins>,
}

impl Connector {
    pub(super) fn new(
        address: &Address,
        timeout: Duration,
        is_pooled: bool,
        origins: Arc<Origins>,
    ) -> Result<Self, Failure> {
        let mut config = address.config.clone();
        if config.get_application_name().is_none() {
            config.application_name("countersign");
        }
        config
            .connect_timeout(timeout)
            .tcp_user_timeout(timeout)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE / 5)
            .keepalives_retries(3);
        if !is_pooled {
            config.options(session_options(config.get_options(), timeout));
        }
        Ok(Self {
            config,
            tls: tls::connector(&address.privacy)?,
            timeout,
            prepares: !is_pooled,
            origins,
        })
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection that is asked.
    pub(super) async fn connect(&self) -> Result<Link, Failure> {
        self.open(None).await
    }

    /// A connection that is also listened to. When it is lost, there is no more to hear.
    pub(super) async fn listen(
        &self,
    ) -> Result<(Link, mpsc::UnboundedReceiver<Notification>), Failure> {
        let (ears, heard) = mpsc::unbounded_channel();
        Ok((self.open(Some(ears)).await?, heard))
    }

    async fn open(
        &self,
        ears: Option<mpsc::UnboundedSender<Notification>>,
    ) -> Result<Link, Failure> {
        let refused = |error| Failure::connecting(&self.config, error);
        let connecting = async {
            if let Some(tls) = &self.tls {
                let (client, connection) =
                    self.config.connect(tls.clone()).await.map_err(refused)?;
                tokio::spawn(attend(connection, ears));
                Ok(client)
            } else {
                let (client, connection) = self.config.connect(NoTls).await.map_err(refused)?;
                tokio::spawn(attend(connection, ears));
                Ok(client)
            }
        };
        // The limit of the configuration is for each address of the host.
        let client = tokio::time::timeout(self.timeout, connecting)
            .await
            .unwrap_or(Err(Failure::Late(self.timeout)))?;
        let link = Link {
            client,
            tls: self.tls.clone(),
            prepares: self.prepares,
            statements: RwLock::default(),
            in_transaction: AtomicBool::new(false),
            was_cancelled: AtomicBool::new(false),
            origin: self.origins.give(),
        };
        link.require_primary(self.timeout).await?;
        Ok(link)
    }
}

/// What holds for each statement of a session: the server gives up before we do, and a node that
/// went away in the middle of a transaction keeps nobody waiting.
fn session_options(own: Option<&str>, timeout: Duration) -> String {
    let milliseconds = timeout.as_millis();
    let statement = milliseconds - milliseconds / 10;
    format!(
        "-c statement_timeout={statement} -c idle_in_transaction_session_timeout={milliseconds} \
         -c default_transaction_isolation=read\\ committed {}",
        own.unwrap_or_default()
    )
}

/// What is said of a server that follows another.
pub(super) fn standby() -> Failure {
    Failure::unavailable(
        "the database is a standby, which may not know yet what has ended: name the primary",
    )
}

/// Moves what is sent and received until the connection ends.
async fn attend<S, T>(
    mut connection: Connection<S, T>,
    ears: Option<mpsc::UnboundedSender<Notification>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                if let Some(ears) = &ears {
                    // Whoever listened may have gone; then the connection ends, too.
                    let _ = ears.send(notification);
                }
            }
            Ok(_) => {}
            // Whoever waits for an answer is told.
            Err(_) => return,
        }
    }
}

impl Manager for Connector {
    type Type = Link;
    type Error = Failure;

    async fn create(&self) -> Result<Link, Failure> {
        self.connect().await
    }

    async fn recycle(&self, link: &mut Link, _: &Metrics) -> RecycleResult<Failure> {
        let is_spoilt = [&link.in_transaction, &link.was_cancelled]
            .iter()
            .any(|flag| flag.load(Ordering::Relaxed));
        if link.client.is_closed() || is_spoilt {
            return Err(RecycleError::message("it is of no use any more"));
        }
        Ok(())
    }
}

/// An open connection.
pub(super) struct Link {
    client: Client,
    tls: Option<MakeRustlsConnect>,
    prepares: bool,
    statements: RwLock<HashMap<Box<str>, Statement>>,
    in_transaction: AtomicBool,
    /// Whether a request to cancel may still be on its way, and would hit whatever comes next.
    was_cancelled: AtomicBool,
    /// What this connection's rows in the change feed carry.
    pub(super) origin: i64,
}

impl Link {
    /// Refuses a standby: it answers, and may not have been told yet which sessions have ended. A
    /// primary does not become one without losing its connections.
    async fn require_primary(&self, limit: Duration) -> Result<(), Failure> {
        let asking = self.query_once("SELECT pg_is_in_recovery()", &[]);
        let rows = tokio::time::timeout(limit, asking)
            .await
            .unwrap_or(Err(Failure::Late(limit)))?;
        let is_standby = rows.first().map(|row| row.try_get(0)).transpose()?;
        if is_standby == Some(false) {
            Ok(())
        } else {
            Err(standby())
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a statement. What several ask at once is sent at once.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        if !self.prepares {
            return Ok(self.client.query_typed(sql, parameters).await?);
        }
        let statement = self.prepared(sql, parameters).await?;
        let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
        Ok(self.client.query(&statement, &values).await?)
    }

    /// Runs a statement that is written for the occasion.
    pub(super) async fn query_once(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        Ok(self.client.query_typed(sql, parameters).await?)
    }

    async fn prepared(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Statement, Failure> {
        let statements = self
            .statements
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(sql)
            .cloned();
        if let Some(statement) = statements {
            return Ok(statement);
        }
        let types: Vec<_> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
        let statement = self.client.prepare_typed(sql, &types).await?;
        self.statements
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// The types of the columns that a statement gives.
    pub(super) async fn column_types(&self, sql: &str) -> Result<Vec<Type>, Failure> {
        let statement = self.client.prepare(sql).await?;
        let columns = statement.columns().iter();
        Ok(columns.map(|column| column.type_().clone()).collect())
    }

    /// Begins a `COPY … FROM STDIN`.
    pub(super) async fn copy_in<B>(&self, sql: &str) -> Result<CopyInSink<B>, Failure>
    where
        B: Buf + Send + 'static,
    {
        Ok(self.client.copy_in(sql).await?)
    }

    /// Runs a statement whose rows are more than fit into memory.
    pub(super) async fn stream(&self, sql: &str) -> Result<RowStream, Failure> {
        let none: [Parameter<'_>; 0] = [];
        Ok(self.client.query_typed_raw(sql, none).await?)
    }

    /// Runs statements without parameters.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Begins a transaction with a first statement. One that is not ended by [`Self::commit_with`],
    /// [`Self::commit`] or [`Self::roll_back`] ends with the connection.
    ///
    /// A statement sees what stood when it began, also if it had to wait since. So whoever must see
    /// what others did before they let go of a lock takes the lock first, by a statement of its own.
    pub(super) async fn begin_with(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        if self.prepares {
            self.prepared(sql, parameters).await?;
        }
        self.in_transaction.store(true, Ordering::Relaxed);
        // Sent in this order, and together.
        let (begun, rows) = future::join(
            self.run("BEGIN ISOLATION LEVEL READ COMMITTED"),
            self.query(sql, parameters),
        )
        .await;
        begun?;
        rows
    }

    /// Ends a transaction with a last statement. If that fails, nothing of it was done.
    pub(super) async fn commit_with(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        if self.prepares {
            self.prepared(sql, parameters).await?;
        }
        // PostgreSQL answers the COMMIT of a transaction in which something failed by undoing it.
        let (rows, committed) = future::join(self.query(sql, parameters), self.run("COMMIT")).await;
        if committed.is_ok() {
            self.in_transaction.store(false, Ordering::Relaxed);
        }
        let rows = rows?;
        committed?;
        Ok(rows)
    }

    pub(super) async fn commit(&self) -> Result<(), Failure> {
        self.end("COMMIT").await
    }

    pub(super) async fn roll_back(&self) -> Result<(), Failure> {
        self.end("ROLLBACK").await
    }

    async fn end(&self, how: &str) -> Result<(), Failure> {
        self.run(how).await?;
        self.in_transaction.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Asks the server to give up what this connection runs, which is the last that it runs.
    pub(super) async fn cancel(&self) {
        self.was_cancelled.store(true, Ordering::Relaxed);
        let token = self.client.cancel_token();
        let cancelling = async {
            match &self.tls {
                Some(tls) => token.cancel_query(tls.clone()).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        // If it does not hear, its answer is waited for no longer.
        let _ = tokio::time::timeout(CANCELLING, cancelling).await;
    }
}
