//! `[registration]`: who may make an account, and how an address is proven.

use std::time::Duration;

use countersign_core::auth::{MailedTokenSettings, RegistrationSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::durations;
use super::mail::TransportSettings;
use super::problems::Problems;
use super::server::ServerSettings;

/// Who may make an account for themselves, and how people prove their e-mail address.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistrationSection {
    /// Whether anybody may make an account (`POST /users/register`). Default: `false`.
    enabled: bool,
    /// Whether whoever registers must prove the e-mail address first: until then the name is reserved and
    /// there is no account. Without, anybody can register with anybody's address, and whether the address is
    /// proven is told in `email_verified`. Default: `true`.
    verify_email: bool,
    /// The page of your app that the links of letters lead to that prove an address. It finds the token
    /// behind `#token=` and shows it to `POST /users/email/verify`. Default: `/account/verify-email` of this
    /// service.
    verify_page: Option<String>,
    /// How long a link works that proves an address, and how long a registration reserves its name; from
    /// `15m` to `7d`. Default: `1d`.
    verify_lifetime: String,
}

impl Default for RegistrationSection {
    fn default() -> Self {
        let (settings, tokens) = (
            RegistrationSettings::default(),
            MailedTokenSettings::default(),
        );
        Self {
            enabled: settings.enabled,
            verify_email: settings.verify_email,
            verify_page: None,
            verify_lifetime: durations::show(tokens.verify_lifetime),
        }
    }
}

/// Less, and a letter that is held back for a while comes too late.
const LEAST_LIFETIME: Duration = Duration::from_mins(15);
const MOST_VERIFY_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// OWASP ASVS 6.4.1 wants what opens an account to be short-lived.
const MOST_RESET_LIFETIME: Duration = Duration::from_hours(24);

/// Where the links of letters lead. `None`: to the pages of the service's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageSettings {
    pub(crate) reset: Option<Url>,
    pub(crate) verify: Option<Url>,
}

impl RegistrationSection {
    pub(crate) fn check(
        &self,
        server: &ServerSettings,
        transport: &TransportSettings,
        problems: &mut Problems,
    ) -> RegistrationSettings {
        if self.enabled && self.verify_email && !transport.reaches_people(server.development) {
            let message = "nobody could prove an address, because no mail is sent: name your mail \
                           server in mail.transport, or set registration.verify_email = false";
            problems.add("registration.enabled", message);
        }
        RegistrationSettings {
            enabled: self.enabled,
            verify_email: self.verify_email,
        }
    }

    pub(crate) fn check_lifetime(&self, problems: &mut Problems) -> Duration {
        let lifetime =
            durations::between(&self.verify_lifetime, LEAST_LIFETIME, MOST_VERIFY_LIFETIME);
        let default = MailedTokenSettings::default().verify_lifetime;
        problems.keep("registration.verify_lifetime", lifetime, default)
    }

    pub(crate) fn check_page(
        &self,
        server: &ServerSettings,
        problems: &mut Problems,
    ) -> Option<Url> {
        check_page(
            "registration.verify_page",
            self.verify_page.as_deref(),
            server,
            problems,
        )
    }
}

/// How long a link works that sets a new password.
pub(super) fn check_reset_lifetime(text: &str, problems: &mut Problems) -> Duration {
    let lifetime = durations::between(text, LEAST_LIFETIME, MOST_RESET_LIFETIME);
    let default = MailedTokenSettings::default().reset_lifetime;
    problems.keep("password.reset_lifetime", lifetime, default)
}

/// A page that a link leads to. Whoever reads along on the way there must not read the token, which the page
/// sends on: https, unless it is on this machine in development.
pub(super) fn check_page(
    key: &str,
    text: Option<&str>,
    server: &ServerSettings,
    problems: &mut Problems,
) -> Option<Url> {
    let parsed = parse_page(text?, server.development);
    problems.keep(key, parsed.map(Some), None)
}

fn parse_page(text: &str, is_development: bool) -> Result<Url, String> {
    let how = "write the address of a page, like https://app.example.org/account";
    let url = Url::parse(text).map_err(|error| format!("{error}: {how}"))?;
    if url.fragment().is_some() {
        return Err(format!(
            "leave out what follows `#`, which is the token's place: {how}"
        ));
    }
    if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(how.to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_development => Ok(url),
        "http" => Err(format!("over http others could read the token: {how}")),
        _ => Err(how.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_addresses_that_nobody_reads_along() {
        for good in [
            "https://app.example.org/verify",
            "https://a.test/x?y=z",
            "https://a.test",
        ] {
            assert!(parse_page(good, false).is_ok(), "{good}");
        }
        assert!(parse_page("http://localhost:3000/verify", true).is_ok());
        for bad in [
            "",
            "/verify",
            "app.example.org/verify",
            "http://app.example.org/verify",
            "javascript:alert(1)",
            "https://app.example.org/#/verify",
            "https://ana:secret@app.example.org/",
            "data:text/html,x",
        ] {
            assert!(parse_page(bad, false).is_err(), "{bad}");
        }
    }
}
