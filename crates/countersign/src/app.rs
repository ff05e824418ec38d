//! The application: the use cases with an HTTP face.

use std::sync::{Arc, OnceLock};

use axum::Router;
use countersign_core::auth::Auth;
use tokio::sync::Semaphore;

use crate::body::BodyMemory;
use crate::metrics::Requests;
use crate::router;
use crate::settings::HttpSettings;
use crate::state::{AppState, WAITING_PLACES};
use crate::surroundings::UntrustedForwards;

/// The service as an axum application.
///
/// ```
/// # use std::sync::Arc;
/// # use countersign_core::{auth::{Auth, AuthSettings}, clock::SystemRandomness};
/// # use countersign_core::{secrets::RootSecret, store::MemoryStore};
/// use countersign::{App, HttpSettings};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let secret = RootSecret::generate(&SystemRandomness);
/// # let store = Arc::new(MemoryStore::default());
/// let auth = Auth::start(store, &secret, AuthSettings::default()).await?;
/// let app = App::new(Arc::new(auth), HttpSettings::new("http://127.0.0.1:8000".parse()?));
/// let router: axum::Router = app.router();
/// # drop(router);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct App {
    state: Arc<AppState>,
}

impl App {
    /// Puts an HTTP face on the use cases.
    pub fn new(auth: Arc<Auth>, settings: HttpSettings) -> Self {
        Self {
            state: Arc::new(AppState {
                auth,
                body_memory: BodyMemory::new(settings.body_memory),
                settings,
                waiting: Semaphore::new(WAITING_PLACES),
                untrusted_forwards: UntrustedForwards::default(),
                requests: Requests::new(),
                openapi: OnceLock::new(),
            }),
        }
    }

    /// The public routes, with all layers.
    ///
    /// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, or put a
    /// [`ConnectInfo`](axum::extract::ConnectInfo) into each request: without it every client is
    /// one of unknown address, and attempts are throttled by account alone.
    pub fn router(&self) -> Router {
        router::public(Arc::clone(&self.state))
    }

    /// `/healthz`, `/readyz` and `/metrics`, for a listener that only the operator reaches.
    pub fn operations_router(&self) -> Router {
        router::operations(Arc::clone(&self.state))
    }
}
