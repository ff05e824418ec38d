//! `[audit]`: how long it is kept what happened.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::durations;
use super::problems::Problems;

/// The audit log: what happened, in the database.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditSection {
    /// How long an entry is kept, from `1d` to `3650d`; `0`: for good. Entries hold addresses, which your
    /// law may want forgotten sooner. Default: `365d`.
    keep: String,
}

impl Default for AuditSection {
    fn default() -> Self {
        Self {
            keep: "365d".to_owned(),
        }
    }
}

const LEAST_KEPT: Duration = Duration::from_hours(24);
const MOST_KEPT: Duration = Duration::from_hours(3_650 * 24);

impl AuditSection {
    /// How long an entry is kept; `None`: for good.
    pub(crate) fn check(&self, problems: &mut Problems) -> Option<Duration> {
        if self.keep.trim() == "0" {
            return None;
        }
        let keep = durations::between(&self.keep, LEAST_KEPT, MOST_KEPT);
        Some(problems.keep("audit.keep", keep, MOST_KEPT))
    }
}
