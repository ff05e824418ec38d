//! The part of `[django]` that is about the refresh tokens which the site has issued.

use countersign::{CookieSettings, LegacyTransport};
use countersign_core::keys::SharedSecret;
use countersign_core::refresh_token::{LegacyTokenKind, LegacyTokenSettings};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::django::DjangoSection;
use super::http_token;
use super::problems::Problems;

/// A year and a month: refresh tokens hardly live longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);

impl DjangoSection {
    /// Which refresh tokens of the site are exchanged, and how they come.
    pub(crate) fn check_tokens(
        &self,
        cookies: &CookieSettings,
        now: Timestamp,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
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
        let until = self.check_until(now, problems, warnings);
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

    fn check_until(
        &self,
        now: Timestamp,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> Option<Timestamp> {
        let Some(text) = &self.tokens_until else {
            let message = "django.tokens needs an end: write the last day on which the site's tokens are \
                           exchanged, such as 2027-01-31";
            problems.add("django.tokens_until", message);
            return None;
        };
        let Some(until) = end_of_day(text) else {
            let message = format!("\"{text}\" is no day: write it like 2027-01-31");
            problems.add("django.tokens_until", message);
            return None;
        };
        if until <= now {
            warnings.push(format!(
                "django.tokens_until: {text} is over and no tokens of the site are exchanged: take \
                 django.tokens, django.tokens_until and django.secret_key out"
            ));
        } else if until.duration_since(now) > LONGEST {
            let message = format!(
                "{text} is more than 400 days ahead: whoever has django.secret_key can sign in as \
                 anybody until then; name a day by which the site's refresh tokens have expired"
            );
            problems.add("django.tokens_until", message);
        }
        Some(until)
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
