//! One file per route: take the request apart, call the use case of the same name, answer.

pub(crate) mod csrf;
pub(crate) mod email;
pub(crate) mod grant;
pub(crate) mod health;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod metrics;
pub(crate) mod password;
pub(crate) mod refresh;
pub(crate) mod register;
pub(crate) mod reset_password;
pub(crate) mod revocations;
pub(crate) mod sessions;
pub(crate) mod user;
pub(crate) mod well_known;
