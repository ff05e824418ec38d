//! Every decision of Countersign: who may sign in, what a refresh token becomes, when a session ends.
//! No HTTP, no SQL.
//!
//! Two journeys lead through these rooms:
//!
//! - **Login**: [`auth::Auth::login`] finds the user in the [`store`], reserves an attempt ([`throttle`]),
//!   has the [`password`] checked on the hashing pool, opens a [`session`], and grants tokens: an access token signed by the key
//!   ring in [`keys`], a [`refresh_token`], and the session's [`csrf`] token.
//! - **Refresh**: [`auth::Auth::refresh`] reads the presented token, asks [`rotation::decide`] what it
//!   is, has [`store::Store::rotate`] advance the session by one compare-and-set, and grants anew.
//!
//! Decisions are pure and stand apart from the store; time and randomness come from [`clock`]; keys
//! come from one root secret in [`secrets`]; what happened is told once through [`audit`], and to the
//! people it happened to by [`mail`].

pub mod audit;
pub mod auth;
pub mod client;
pub mod clock;
pub mod csrf;
mod domain;
pub mod error;
pub mod keys;
mod known;
mod likeness;
pub mod mail;
pub mod mailed_token;
pub mod notices;
pub mod password;
pub mod refresh_token;
pub mod rotation;
pub mod secrets;
pub mod session;
pub mod store;
pub mod survey;
pub mod throttle;
pub mod user;
pub mod validation;
