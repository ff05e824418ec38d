//! `keys`: the keys that sign access tokens.

use countersign_core::auth::{Auth, KeyRotation, SigningKeyStatus};
use countersign_core::error::AuthError;
use countersign_core::session::EndedBy;
use countersign_core::store::KeyState;
use serde_json::{Value, json};

use crate::cli::Keys;
use crate::config::Settings;
use crate::failure::Failure;
use crate::opening::{self, IfMissing};
use crate::output;

pub(super) async fn run(settings: &Settings, command: Keys) -> Result<(), Failure> {
    let auth = opening::open(settings, IfMissing::Refuse).await?;
    match command {
        Keys::List { json } => list(&auth, json).await,
        Keys::Rotate { now } => rotate(&auth, now).await,
        Keys::Revoke { kid } => revoke(&auth, &kid).await,
    }
}

async fn list(auth: &Auth, as_json: bool) -> Result<(), Failure> {
    let keys = auth.list_keys().await?;
    if as_json {
        output::json(&keys.iter().map(to_json).collect());
        return Ok(());
    }
    for key in &keys {
        let line = format!(
            "{}  {:<5}  {:<7}  since {}  {}",
            key.kid,
            key.algorithm.name(),
            key.state.code(),
            key.state_since,
            next_step(key)
        );
        output::line(line.trim_end());
    }
    Ok(())
}

fn next_step(key: &SigningKeyStatus) -> String {
    let at = key.changes_at;
    match key.state {
        KeyState::Next => format!("signs from {at}"),
        KeyState::Current => format!("signs until {at}"),
        KeyState::Retired | KeyState::Revoked => format!("removed after {at}"),
    }
}

async fn rotate(auth: &Auth, now: bool) -> Result<(), Failure> {
    match auth.rotate_keys(now, EndedBy::CommandLine).await? {
        KeyRotation::Published(key) => {
            output::line(format_args!(
                "{} is published; it signs from {}.",
                key.kid, key.changes_at
            ));
        }
        KeyRotation::UnderWay(key) => output::line(format_args!(
            "{} had been published already; it signs from {}. To have it sign at once: countersign keys \
             rotate --now",
            key.kid, key.changes_at
        )),
        KeyRotation::Signing(key) => output::line(format_args!("{} signs now.", key.kid)),
        KeyRotation::SharedSecret => {
            return Err(Failure::Failed(
                "tokens are signed with tokens.shared_secret: to replace it, set another one here \
                 and at every resource server"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

async fn revoke(auth: &Auth, kid: &str) -> Result<(), Failure> {
    match auth.revoke_key(kid, EndedBy::CommandLine).await {
        Ok(()) => {
            output::line(format_args!(
                "{kid} is revoked: a running service refuses its tokens within 250 ms."
            ));
            Ok(())
        }
        Err(AuthError::NoSuchKey) => Err(Failure::Failed(
            "there is no such key, or it had been revoked before: `countersign keys list` names them"
                .to_owned(),
        )),
        Err(error) => Err(error.into()),
    }
}

fn to_json(key: &SigningKeyStatus) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm.name(),
        "state": key.state.code(),
        "created_at": key.created_at.to_string(),
        "state_since": key.state_since.to_string(),
        "changes_at": key.changes_at.to_string(),
    })
}
