//! Countersign as an axum library: the account and login service for single-page apps and REST
//! APIs, to be mounted in a program of your own.
//!
//! [`App`] puts an HTTP face on the use cases of [`countersign_core::auth::Auth`]:
//! [`App::router`] has every public route with all its layers, [`App::operations_router`] has the
//! health checks and the metrics.

mod account_pages;
mod admission;
mod api;
mod api_page;
mod app;
mod body;
mod cookies;
mod cors;
mod error;
mod extract;
mod layers;
mod metrics;
mod notice;
mod openapi;
mod origin;
mod refresh_tokens;
mod router;
mod settings;
mod state;
mod surroundings;

pub use account_pages::{RESET_PASSWORD_PAGE, VERIFY_EMAIL_PAGE};
pub use app::App;
pub use body::MAX_BODY_BYTES;
pub use cookies::{
    CookieSettings, DEVELOPMENT_DEVICE_NAME, DEVELOPMENT_REFRESH_NAME, HTTPS_DEVICE_NAME,
    HTTPS_REFRESH_NAME,
};
pub use countersign_core as core;
pub use error::{ErrorCode, FieldProblem, Problem};
pub use openapi::openapi;
pub use origin::{InvalidOrigin, Origin};
pub use settings::{FeedToken, HttpSettings, LegacyTransport};
