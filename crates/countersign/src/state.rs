//! What every handler can reach.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use countersign_core::auth::Auth;

use crate::settings::HttpSettings;

/// What every handler can reach.
#[derive(Debug)]
pub(crate) struct AppState {
    pub(crate) auth: Arc<Auth>,
    pub(crate) settings: HttpSettings,
    /// The description of the API, written out when first asked for.
    pub(crate) openapi: OnceLock<Bytes>,
}
