//! `[revocations]`: who may read the revocation feed.

use countersign::FeedToken;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::secret_text::SecretText;

/// Who may read the revocation feed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RevocationsSection {
    /// What resource servers show as `Authorization: Bearer` for `/.well-known/revocations`: at least
    /// 32 characters, as `openssl rand -base64 32` writes them. Without one the feed is for everybody,
    /// like the public keys: it names sessions and numbers of users, and no secret.
    /// Default: none.
    token: Option<SecretText>,
}

/// Enough that nobody guesses it.
const LEAST_CHARACTERS: usize = 32;

impl RevocationsSection {
    pub(crate) fn check(&self, problems: &mut Problems) -> Option<FeedToken> {
        let token = self.token.as_ref()?.expose();
        if token.len() < LEAST_CHARACTERS || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            problems.add(
                "revocations.token",
                "write at least 32 visible ASCII characters: make them with `openssl rand -base64 32`",
            );
        }
        Some(FeedToken::new(token))
    }
}
