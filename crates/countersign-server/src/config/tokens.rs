//! `[tokens]`: what access tokens say and how they are signed.

use std::time::Duration;

use countersign::Origin;
use countersign_core::auth::{TokenSettings, UserClaim};
use countersign_core::keys::{SharedSecret, SigningAlgorithm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::secret_text::SecretText;
use super::{durations, http_token, suggest};

/// What access tokens say and how they are signed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TokensSection {
    /// The `iss` of every token. Default: `server.public_url`.
    issuer: Option<String>,
    /// The `aud` of access tokens: who they are meant for. Default: none.
    audience: Vec<String>,
    /// The algorithm that signs access tokens. `ES256` is known everywhere; `Ed25519` is the same
    /// key type as `EdDSA` under its newer name (RFC 9864), which older libraries lack; `HS256`
    /// needs `tokens.shared_secret`. Default: `ES256`.
    #[schemars(extend("enum" = ["ES256", "EdDSA", "Ed25519", "HS256"]))]
    algorithm: String,
    /// For `HS256` only: the secret shared with the resource servers, at least 32 random bytes, as
    /// `openssl rand -base64 32` writes them. Whoever holds it can make tokens. Default: none.
    shared_secret: Option<SecretText>,
    /// How long an access token lives, from `10s` to `1h`; more than `15m` is advised against.
    /// Default: `5m`.
    access_lifetime: String,
    /// The words accepted before the token in `Authorization`, in any case. Older clients write
    /// `token` or `JWT`. Default: `["Bearer"]`.
    header_schemes: Vec<String>,
    /// The user's fields that access tokens carry, each under its own name. `groups` and `permissions`
    /// are read from a Django site's tables: see `docs/django.md`. Default: none.
    #[schemars(extend("items" = { "type": "string", "enum": UserClaim::ALL.map(UserClaim::name) }))]
    user_claims: Vec<String>,
    /// How far the service's own clock may be off when it checks its tokens, at most `2m`.
    /// Default: `0s`.
    leeway: String,
}

impl Default for TokensSection {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: Vec::new(),
            algorithm: "ES256".to_owned(),
            shared_secret: None,
            access_lifetime: "5m".to_owned(),
            header_schemes: vec!["Bearer".to_owned()],
            user_claims: Vec::new(),
            leeway: "0s".to_owned(),
        }
    }
}

/// The longest life an access token may have: it works until then wherever revocation is not seen.
const MOST_ACCESS_LIFETIME: Duration = Duration::from_hours(1);
/// What is advised at most.
const ADVISED_ACCESS_LIFETIME: Duration = Duration::from_mins(15);
const LEAST_ACCESS_LIFETIME: Duration = Duration::from_secs(10);
const MOST_LEEWAY: Duration = Duration::from_mins(2);

impl TokensSection {
    pub(crate) fn check(
        &self,
        public_url: &Origin,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> TokenSettings {
        let lifetime = durations::between(
            &self.access_lifetime,
            LEAST_ACCESS_LIFETIME,
            MOST_ACCESS_LIFETIME,
        );
        let access_lifetime =
            problems.keep("tokens.access_lifetime", lifetime, LEAST_ACCESS_LIFETIME);
        if access_lifetime > ADVISED_ACCESS_LIFETIME {
            warnings.push(format!(
                "tokens.access_lifetime: a stolen access token works for {}; 15m or less is advised",
                durations::show(access_lifetime)
            ));
        }
        let leeway = durations::between(&self.leeway, Duration::ZERO, MOST_LEEWAY);
        TokenSettings {
            issuer: self.check_issuer(public_url, problems),
            audience: self.check_audience(problems),
            algorithm: self.check_algorithm(problems),
            access_lifetime,
            leeway: problems.keep("tokens.leeway", leeway, Duration::ZERO),
            user_claims: self.check_user_claims(problems),
        }
    }

    fn check_issuer(&self, public_url: &Origin, problems: &mut Problems) -> String {
        let Some(issuer) = &self.issuer else {
            return public_url.to_string();
        };
        if !is_visible(issuer) {
            problems.add(
                "tokens.issuer",
                "write a name or URL of visible ASCII characters",
            );
        }
        issuer.clone()
    }

    fn check_audience(&self, problems: &mut Problems) -> Vec<String> {
        if !self.audience.iter().all(|name| is_visible(name)) {
            problems.add(
                "tokens.audience",
                "write names or URLs of visible ASCII characters",
            );
        }
        self.audience.clone()
    }

    fn check_user_claims(&self, problems: &mut Problems) -> Vec<UserClaim> {
        let names = UserClaim::ALL.map(UserClaim::name);
        let mut claims = Vec::new();
        for text in &self.user_claims {
            match UserClaim::ALL
                .into_iter()
                .find(|claim| claim.name() == text)
            {
                Some(claim) if claims.contains(&claim) => {}
                Some(claim) => claims.push(claim),
                None => {
                    let meant = suggest::nearest_word(text, &names);
                    let meant =
                        meant.map_or(String::new(), |word| format!("did you mean {word}? "));
                    let names = names.join(", ");
                    let message = format!("\"{text}\": {meant}take any of {names}");
                    problems.add("tokens.user_claims", message);
                }
            }
        }
        claims
    }

    pub(crate) fn check_header_schemes(&self, problems: &mut Problems) -> Vec<String> {
        let key = "tokens.header_schemes";
        if self.header_schemes.is_empty() {
            problems.add(
                key,
                "name at least one, or no access token is ever accepted",
            );
        }
        for scheme in &self.header_schemes {
            if !http_token::is_token(scheme) {
                problems.add(key, format!("\"{scheme}\": write one word, like Bearer"));
            } else if scheme.eq_ignore_ascii_case("basic") {
                problems.add(key, "Basic carries passwords, not tokens: leave it out");
            }
        }
        self.header_schemes.clone()
    }

    fn check_algorithm(&self, problems: &mut Problems) -> SigningAlgorithm {
        let secret = self.shared_secret.as_ref().map(|text| {
            SharedSecret::parse(text.expose())
                // The rules are the root secret's, and so are the words.
                .map_err(|refusal| refusal.to_string().replace("root secret", "shared secret"))
        });
        let algorithm = match self.algorithm.as_str() {
            "ES256" => SigningAlgorithm::Es256,
            "EdDSA" => SigningAlgorithm::EdDsa,
            "Ed25519" => SigningAlgorithm::Ed25519,
            "HS256" => match secret {
                Some(Ok(secret)) => return SigningAlgorithm::Hs256(secret),
                Some(Err(refusal)) => {
                    problems.add("tokens.shared_secret", refusal);
                    return SigningAlgorithm::default();
                }
                None => {
                    let message = "HS256 needs it: set this to the output of `openssl rand -base64 \
                                   32`, or choose ES256";
                    problems.add("tokens.shared_secret", message);
                    return SigningAlgorithm::default();
                }
            },
            other => {
                // No "did you mean": the nearest name may be a quite different thing.
                let message = format!("\"{other}\": take ES256, EdDSA, Ed25519 or HS256");
                problems.add("tokens.algorithm", message);
                return SigningAlgorithm::default();
            }
        };
        if secret.is_some() {
            let message = format!(
                "{} signs with keys of its own: leave this out, or set tokens.algorithm to HS256",
                algorithm.name()
            );
            problems.add("tokens.shared_secret", message);
        }
        algorithm
    }
}

fn is_visible(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
