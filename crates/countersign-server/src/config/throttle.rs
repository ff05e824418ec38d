//! `[throttle]`: how often what may be attempted.

use std::time::Duration;

use countersign_core::throttle::{Limit, ThrottleSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::durations;
use super::problems::Problems;
use super::server::ServerSettings;

/// How often what may be attempted. A limit is written `5 then 30s to 15m`: five attempts at once, the
/// next one 30 seconds after the last, each further one after twice as long, up to a quarter of an hour;
/// and one is forgotten each quarter of an hour. `20 then 30s` is the same without growing. Sign-ins and
/// current passwords that succeed do not count; registrations and letters do. All nodes
/// count together what may guess a password; the rest is counted by each process alone. See
/// docs/security/throttling.md.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ThrottleSection {
    /// Failed sign-ins to one account from one address. Default: `5 then 30s to 15m`.
    login_account_from_address: String,
    /// Failed sign-ins to one account from all addresses together; more than one address can use up, or
    /// a single stranger would make the owner wait. Default: `20 then 30s to 15m`.
    login_account: String,
    /// Failed sign-ins from one address to whichever account; with IPv6 from one network (/64). Many
    /// people may share an address. Default: `20 then 30s`.
    login_address: String,
    /// Failed sign-ins from a device that the account's user has signed in from before; they are counted
    /// here instead of by account and address. Default: `5 then 30s to 15m`.
    login_device: String,
    /// Wrong current passwords of one user who is signed in and changes the password. Default:
    /// `5 then 30s to 15m`.
    change_password: String,
    /// Registrations from one address; those that succeed count as well. Default: `20 then 1m`.
    register: String,
    /// Wishes for letters from one address: to reset a password, or to prove an address. Default:
    /// `20 then 30s`.
    mail_request: String,
    /// Letters that strangers can have sent to one mailbox; of more, none are sent, and the answer is the
    /// same. Default: `5 then 5m to 1h`.
    mail_recipient: String,
    /// Wishes of one user for another e-mail address. Default: `5 then 5m to 1h`.
    change_email: String,
    /// Refreshes of one session; by each process. Default: `300 then 200ms`.
    refresh: String,
    /// Refused access and refresh tokens from one address, expired ones left out; by each process.
    /// Genuine ones pass all the same. Default: `300 then 1s`.
    refused_tokens: String,
    /// Mailed tokens shown from one address; by each process. Default: `60 then 1s`.
    mailed_tokens: String,
    /// `GET /users/csrf` from one address; by each process. Default: `300 then 200ms`.
    csrf: String,
    /// `GET /.well-known/revocations` from one address without `revocations.token`; by each process.
    /// Default: `600 then 50ms`.
    revocations: String,
    /// Throttles nothing: for benchmarks and load tests, in development only. Default: `false`.
    insecure_off: bool,
}

impl Default for ThrottleSection {
    fn default() -> Self {
        let default = ThrottleSettings::default();
        Self {
            login_account_from_address: show(default.login_account_from_address),
            login_account: show(default.login_account),
            login_address: show(default.login_address),
            login_device: show(default.login_device),
            change_password: show(default.change_password),
            register: show(default.register),
            mail_request: show(default.mail_request),
            mail_recipient: show(default.mail_recipient),
            change_email: show(default.change_email),
            refresh: show(default.refresh),
            refused_tokens: show(default.refused_tokens),
            mailed_tokens: show(default.mailed_tokens),
            csrf: show(default.csrf),
            revocations: show(default.revocations),
            insecure_off: default.insecure_off,
        }
    }
}

/// More than this is no limit.
const MOST_BURST: u32 = 100_000;
const LEAST_INTERVAL: Duration = Duration::from_millis(1);
const MOST_INTERVAL: Duration = Duration::from_hours(24);
/// The failures in a row after which NIST SP 800-63B wants an account to be disabled.
const MOST_GUESSES: u32 = 100;

impl ThrottleSection {
    pub(crate) fn check(
        &self,
        server: &ServerSettings,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> ThrottleSettings {
        let is_development = !server.public_url.is_https() && server.public_url.is_loopback();
        if self.insecure_off && !is_development {
            let message = "without throttling anybody guesses passwords as fast as this service \
                           hashes: leave this false, or try it out on a loopback address over http";
            problems.add("throttle.insecure_off", message);
        } else if self.insecure_off {
            let message = "throttle.insecure_off: nothing is throttled, passwords can be guessed";
            warnings.push(message.to_owned());
        }
        let default = ThrottleSettings::default();
        let mut limit = |name: &str, text: &str, stand_in| {
            let key = format!("throttle.{name}");
            problems.keep(&key, parse(text), stand_in)
        };
        let login_account = limit("login_account", &self.login_account, default.login_account);
        let settings = ThrottleSettings {
            insecure_off: self.insecure_off,
            login_account_from_address: limit(
                "login_account_from_address",
                &self.login_account_from_address,
                default.login_account_from_address,
            ),
            login_account,
            login_address: limit("login_address", &self.login_address, default.login_address),
            login_device: limit("login_device", &self.login_device, default.login_device),
            change_password: limit(
                "change_password",
                &self.change_password,
                default.change_password,
            ),
            register: limit("register", &self.register, default.register),
            mail_request: limit("mail_request", &self.mail_request, default.mail_request),
            mail_recipient: limit(
                "mail_recipient",
                &self.mail_recipient,
                default.mail_recipient,
            ),
            change_email: limit("change_email", &self.change_email, default.change_email),
            refresh: limit("refresh", &self.refresh, default.refresh),
            refused_tokens: limit(
                "refused_tokens",
                &self.refused_tokens,
                default.refused_tokens,
            ),
            mailed_tokens: limit("mailed_tokens", &self.mailed_tokens, default.mailed_tokens),
            csrf: limit("csrf", &self.csrf, default.csrf),
            revocations: limit("revocations", &self.revocations, default.revocations),
        };
        if login_account.burst.get() > MOST_GUESSES {
            let message = "throttle.login_account: NIST SP 800-63B wants no more than 100 failures \
                           in a row on one account";
            warnings.push(message.to_owned());
        }
        if login_account.burst <= settings.login_account_from_address.burst {
            let message = "throttle.login_account: no more attempts at once than \
                           throttle.login_account_from_address, so a single stranger makes the owner \
                           wait: give it more";
            warnings.push(message.to_owned());
        }
        settings
    }
}

fn parse(text: &str) -> Result<Limit, String> {
    let how = || "write a limit like `5 then 30s to 15m`, or `20 then 30s`".to_owned();
    let (burst, waits) = text.split_once(" then ").ok_or_else(how)?;
    let burst: u32 = burst.trim().parse().map_err(|_| how())?;
    if !(1..=MOST_BURST).contains(&burst) {
        return Err(format!("{burst} is not between 1 and {MOST_BURST}"));
    }
    let duration = |text: &str| durations::between(text.trim(), LEAST_INTERVAL, MOST_INTERVAL);
    // A wait that does not grow is at its longest from the beginning.
    let (interval, longest) = waits.split_once(" to ").unwrap_or((waits, waits));
    let (interval, longest) = (duration(interval)?, duration(longest)?);
    if longest < interval {
        return Err("the wait cannot become shorter than it begins".to_owned());
    }
    Ok(Limit::growing(burst, interval, longest))
}

fn show(limit: Limit) -> String {
    let Limit {
        burst,
        interval,
        longest,
    } = limit;
    let shown = format!("{burst} then {}", durations::show(interval));
    if longest == interval {
        return shown;
    }
    format!("{shown} to {}", durations::show(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shown_as_it_is_written() {
        for text in ["5 then 30s to 15m", "20 then 30s", "300 then 200ms"] {
            assert_eq!(parse(text).map(show), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_limit_is_refused_with_the_way_out() {
        for (text, said) in [
            ("5", "write a limit like"),
            ("", "write a limit like"),
            ("five then 30s", "write a limit like"),
            ("-1 then 30s", "write a limit like"),
            ("0 then 30s", "0 is not between 1 and 100000"),
            ("5 then 30", "write a duration with its unit"),
            ("5 then 0s", "0s is not between 1ms and 1d"),
            ("5 then 30s to 2d", "2d is not between"),
            ("5 then 15m to 30s", "cannot become shorter"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }
}
