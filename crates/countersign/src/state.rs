//! What every handler can reach.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use countersign_core::auth::Auth;
use tokio::sync::Semaphore;

use crate::body::BodyMemory;
use crate::metrics::Requests;
use crate::settings::HttpSettings;
use crate::surroundings::UntrustedForwards;

/// How many may wait for something new in the revocation feed at once: a place costs a connection and a
/// few KiB.
pub(crate) const WAITING_PLACES: usize = 1_024;

/// What every handler can reach.
#[derive(Debug)]
pub(crate) struct AppState {
    pub(crate) auth: Arc<Auth>,
    pub(crate) settings: HttpSettings,
    /// The places of those who wait for something new in the revocation feed.
    pub(crate) waiting: Semaphore,
    /// When it was last said that forwarded headers come from somebody who is not trusted.
    pub(crate) untrusted_forwards: UntrustedForwards,
    /// What bodies may take in memory.
    pub(crate) body_memory: BodyMemory,
    /// What has been answered, and how long it took.
    pub(crate) requests: Requests,
    /// The description of the API, written out when first asked for.
    pub(crate) openapi: OnceLock<Bytes>,
}
