//! `[sessions]`: how long people stay signed in.

use std::num::NonZeroU32;
use std::time::Duration;

use countersign_core::session::SessionLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::durations;
use super::problems::Problems;

/// How long people stay signed in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SessionsSection {
    /// How long a session lasts without being used; at most `sessions.absolute`. Default: `7d`.
    idle: String,
    /// How long a session lasts however much it is used, at most `365d`. Default: `30d`.
    absolute: String,
    /// How long the refresh token before the current one is answered with the same successor, for
    /// tabs that race and replies that are lost; at most `5m`. Default: `30s`.
    grace: String,
    /// How many sessions a user may have at once; with one more, the one used least recently ends.
    /// `0`: any number. Default: `0`.
    max_per_user: u32,
    /// How long an ended session is kept, to tell its client and its user why it ended; at least
    /// `sessions.idle`, at most `365d`. Default: `30d`.
    keep_ended: String,
}

impl Default for SessionsSection {
    fn default() -> Self {
        Self {
            idle: "7d".to_owned(),
            absolute: "30d".to_owned(),
            grace: "30s".to_owned(),
            max_per_user: 0,
            keep_ended: "30d".to_owned(),
        }
    }
}

const LEAST_SESSION: Duration = Duration::from_secs(10);
const MOST_SESSION: Duration = Duration::from_hours(365 * 24);
/// Within the grace a stolen refresh token goes unnoticed.
const MOST_GRACE: Duration = Duration::from_mins(5);

/// The settings of this section, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionSettings {
    pub(crate) limits: SessionLimits,
    pub(crate) max_per_user: Option<NonZeroU32>,
    pub(crate) keep_ended: Duration,
}

impl SessionsSection {
    pub(crate) fn check(
        &self,
        access_lifetime: Duration,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> SessionSettings {
        let idle = durations::between(&self.idle, LEAST_SESSION, MOST_SESSION);
        let absolute = durations::between(&self.absolute, LEAST_SESSION, MOST_SESSION);
        let grace = durations::between(&self.grace, Duration::ZERO, MOST_GRACE);
        if let (Ok(idle), Ok(absolute)) = (&idle, &absolute) {
            if idle > absolute {
                let message = "this is longer than sessions.absolute: shorten one or lengthen the \
                               other";
                problems.add("sessions.idle", message);
            } else if *idle < access_lifetime {
                let message = "sessions.idle is shorter than tokens.access_lifetime: people are \
                               signed out before their page asks for the next access token";
                warnings.push(message.to_owned());
            }
        }
        let keep_ended = durations::between(&self.keep_ended, LEAST_SESSION, MOST_SESSION);
        if let (Ok(idle), Ok(keep_ended)) = (&idle, &keep_ended)
            && keep_ended < idle
        {
            let message = "this is shorter than sessions.idle: a client that comes with the token of \
                           an ended session could not be told why it ended";
            problems.add("sessions.keep_ended", message);
        }
        SessionSettings {
            limits: SessionLimits {
                idle: problems.keep("sessions.idle", idle, LEAST_SESSION),
                absolute: problems.keep("sessions.absolute", absolute, MOST_SESSION),
                grace: problems.keep("sessions.grace", grace, Duration::ZERO),
            },
            max_per_user: NonZeroU32::new(self.max_per_user),
            keep_ended: problems.keep("sessions.keep_ended", keep_ended, MOST_SESSION),
        }
    }
}
