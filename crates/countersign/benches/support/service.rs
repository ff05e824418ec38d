//! The service over a SQLite file on this disk, and servers on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use countersign::core::audit::Caller;
use countersign::core::auth::{Auth, AuthSettings, Grant, Login, NewAccount};
use countersign::core::clock::SystemRandomness;
use countersign::core::password::{HashingSettings, Password};
use countersign::core::secrets::RootSecret;
use countersign::core::session::EndedBy;
use countersign::core::store::SharedStore;
use countersign::core::throttle::{Limit, ThrottleSettings};
use countersign::core::user::{Email, Username};
use countersign::{App, HttpSettings};
use countersign_sql::{SqliteOptions, SqliteStore};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The name that the threads of a server have.
pub(crate) const SERVER_THREADS: &str = "server";

/// Logs as the service does by default, level `info` in JSON, only that nothing is written: what a
/// request costs includes what is noted about it.
pub(crate) fn log() {
    let (level, _) = reload::Layer::new(EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(std::io::sink)
        .with_filter(level);
    tracing_subscriber::registry().with(lines).init();
}

/// A directory for a database, on the disk that the build is on: `/tmp` may be in memory, where
/// nothing is durable. Deleted with this.
pub(crate) struct Disk(TempDir);

impl Disk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    /// An empty database.
    pub(crate) fn store(&self) -> SharedStore {
        let options = SqliteOptions::new(self.0.path().join("countersign.db"));
        Arc::new(SqliteStore::open(&options).unwrap())
    }
}

/// The service, its users being `user-0`, `user-1` and so on.
pub(crate) struct Service {
    pub(crate) auth: Arc<Auth>,
    pub(crate) router: Router,
}

impl Service {
    /// Starts one with so many users.
    pub(crate) async fn start(store: SharedStore, hashing: HashingSettings, users: usize) -> Self {
        // A bench does more than anybody may; it is counted all the same.
        let wide = Limit::steady(1_000_000, Duration::from_millis(1));
        let throttle = ThrottleSettings {
            insecure_off: false,
            login_account_from_address: wide,
            login_account: wide,
            login_address: wide,
            login_device: wide,
            change_password: wide,
            register: wide,
            mail_request: wide,
            mail_recipient: wide,
            change_email: wide,
            mailed_tokens: wide,
            refresh: wide,
            refused_tokens: wide,
            csrf: wide,
            revocations: wide,
        };
        let settings = AuthSettings {
            hashing,
            throttle,
            ..AuthSettings::default()
        };
        Self::start_with(store, settings, users).await
    }

    /// The same with settings of the bench's.
    pub(crate) async fn start_with(
        store: SharedStore,
        settings: AuthSettings,
        users: usize,
    ) -> Self {
        let http = HttpSettings::new(settings.tokens.issuer.parse().unwrap());
        let root = RootSecret::generate(&SystemRandomness);
        let auth = Auth::start(store, &root, settings).await;
        let auth = Arc::new(auth.unwrap());
        for number in 0..users {
            let account = NewAccount {
                username: Username::parse(&format!("user-{number}")).unwrap(),
                email: Email::parse(&format!("user-{number}@example.org")).unwrap(),
                password: Some(Password::new(PASSWORD.to_owned()).unwrap()),
                is_staff: false,
                is_superuser: false,
            };
            auth.create_user(account, EndedBy::CommandLine)
                .await
                .unwrap();
        }
        Self {
            router: App::new(Arc::clone(&auth), http).router(),
            auth,
        }
    }

    /// Signs a user in.
    pub(crate) async fn sign_in(&self, number: usize) -> Grant {
        let login = Login {
            username: &format!("user-{number}"),
            password: Password::new(PASSWORD.to_owned()).unwrap(),
            remember: true,
            presented: None,
            device: None,
            legacy_token: None,
        };
        self.auth.login(login, Caller::default()).await.unwrap()
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    /// Serves a router on loopback with so many threads.
    pub(crate) fn start(router: Router, threads: usize) -> Self {
        let runtime = runtime(threads);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

/// A runtime of so many threads.
pub(crate) fn runtime(threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(SERVER_THREADS)
        .enable_all()
        .build()
        .unwrap()
}
