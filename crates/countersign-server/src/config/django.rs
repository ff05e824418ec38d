//! `[django]`: the Django site that the service takes over.

use countersign::{CookieSettings, LegacyTransport};
use countersign_core::keys::SharedSecret;
use countersign_core::refresh_token::{LegacyTokenKind, LegacyTokenSettings};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http_token;
use super::problems::Problems;
use super::secret_text::SecretText;

/// The Django site that the service takes over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DjangoSection {
    /// Whose refresh tokens are exchanged for sessions, once each, so that nobody is signed out by the
    /// cut-over: those of the hand-written `recipe` (`user_id`, `iat`, `exp`), or `simplejwt`'s. See
    /// `docs/django.md`. Default: `none`.
    #[schemars(extend("enum" = ["none", "recipe", "simplejwt"]))]
    tokens: String,
    /// The last day, in UTC, on which they are: `2027-01-31`. Needed with `django.tokens`; by the time
    /// that the site's refresh tokens live nobody needs it any longer. Default: none.
    tokens_until: Option<String>,
    /// The key that the site signs its refresh tokens with (HS256): the recipe's
    /// `REFRESH_TOKEN_SECRET`, or for simplejwt its `SIGNING_KEY`, which unless set is Django's
    /// `SECRET_KEY`. Whoever holds it can sign in as anybody until `django.tokens_until`. Default: none.
    secret_key: Option<SecretText>,
    /// The name of the cookie in which the site keeps its refresh token. Default: `refreshtoken`.
    cookie: String,
}

impl Default for DjangoSection {
    fn default() -> Self {
        Self {
            tokens: "none".to_owned(),
            tokens_until: None,
            secret_key: None,
            cookie: "refreshtoken".to_owned(),
        }
    }
}

impl DjangoSection {
    /// Which refresh tokens of the site are exchanged, and how they come.
    pub(crate) fn check(
        &self,
        cookies: &CookieSettings,
        problems: &mut Problems,
    ) -> Option<(LegacyTokenSettings, LegacyTransport)> {
        self.check_cookie(cookies, problems);
        let kind = match self.tokens.as_str() {
            "none" => {
                self.refuse_idle(problems);
                return None;
            }
            "recipe" => LegacyTokenKind::Recipe,
            "simplejwt" => LegacyTokenKind::SimpleJwt,
            other => {
                let message = format!("\"{other}\": take none, recipe or simplejwt");
                problems.add("django.tokens", message);
                return None;
            }
        };
        let key = self.check_key(problems);
        let until = self.check_until(problems);
        let settings = LegacyTokenSettings {
            kind,
            key: key?,
            until: until?,
        };
        let transport = LegacyTransport {
            cookie: self.cookie.clone(),
            in_body: kind == LegacyTokenKind::SimpleJwt,
        };
        Some((settings, transport))
    }

    /// Refuses what says nothing while no tokens are exchanged: a key must not lie about for nothing.
    fn refuse_idle(&self, problems: &mut Problems) {
        let message = "no tokens are exchanged: set django.tokens to recipe or simplejwt, or leave this \
                       out";
        if self.secret_key.is_some() {
            problems.add("django.secret_key", message);
        }
        if self.tokens_until.is_some() {
            problems.add("django.tokens_until", message);
        }
    }

    fn check_key(&self, problems: &mut Problems) -> Option<SharedSecret> {
        let Some(text) = &self.secret_key else {
            let message = "django.tokens needs it: set this to the key that the site signs its refresh \
                           tokens with";
            problems.add("django.secret_key", message);
            return None;
        };
        let refused = |_| {
            let message = "this key is shorter than 32 bytes or can be guessed, as one that begins with \
                           django-insecure can by whoever reads the site's code: with it anybody could \
                           sign in as anybody, so leave django.tokens out and let people sign in again";
            problems.add("django.secret_key", message);
        };
        SharedSecret::parse(text.expose()).map_err(refused).ok()
    }

    fn check_until(&self, problems: &mut Problems) -> Option<Timestamp> {
        let Some(text) = &self.tokens_until else {
            let message = "django.tokens needs an end: write the last day on which the site's tokens are \
                           exchanged, such as 2027-01-31";
            problems.add("django.tokens_until", message);
            return None;
        };
        let until = end_of_day(text);
        if until.is_none() {
            let message = format!("\"{text}\" is no day: write it like 2027-01-31");
            problems.add("django.tokens_until", message);
        }
        until
    }

    fn check_cookie(&self, cookies: &CookieSettings, problems: &mut Problems) {
        if !http_token::is_token(&self.cookie) {
            let message = "use letters, digits and - _ . only (RFC 6265)";
            problems.add("django.cookie", message);
        } else if self.cookie == cookies.csrf_name {
            let message = "this is the name of the CSRF cookie: name the one of the refresh token";
            problems.add("django.cookie", message);
        }
    }
}

/// The end of a day in UTC.
fn end_of_day(text: &str) -> Option<Timestamp> {
    let day: Date = text.parse().ok()?;
    let next = day.checked_add(1.day()).ok()?;
    let end = Offset::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok()?;
    (day.to_string() == text).then_some(end)
}
