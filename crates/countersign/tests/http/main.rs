//! The HTTP face, route by route, over the store that forgets; and what attackers try at it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests are tests as well"
)]

mod account_pages;
mod api_page;
mod audit;
mod cookies;
mod cors;
mod csrf;
mod discovery;
mod email;
mod ends_at_once;
mod errors;
mod forged_tokens;
mod guarded;
mod harness;
mod login;
mod logout;
mod logs;
mod malformed;
mod operations;
mod origin_and_csrf;
mod password;
mod powers;
mod proxies;
mod races;
mod recipe_defects;
mod refresh;
mod register;
mod reset_password;
mod revocations;
mod sessions;
mod signing_keys;
mod sql;
mod storage_failures;
mod takeover;
mod throttling;
mod troubled_store;
mod upkeep;
mod user;
