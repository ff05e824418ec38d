//! A resource server that follows an issuer over real sockets: an obedient one, one that goes away,
//! and one that means no good.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests are tests as well"
)]

mod actors;
mod ends;
mod hostile;
mod keys;
mod lost;
mod tls;
