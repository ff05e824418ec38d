//! Tokens as they arrive: honest, foreign and forged.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests are tests as well"
)]

mod accepted;
mod actors;
mod forged;
mod jose;
mod properties;
mod remembered;
mod revoked;
mod rfc;
mod wycheproof;
