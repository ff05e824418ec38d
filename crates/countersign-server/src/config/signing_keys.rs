//! `[keys]`: how long the keys that sign access tokens live.

use std::time::Duration;

use countersign_core::auth::KeyTimes;
use countersign_core::keys::KeySchedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::durations;
use super::problems::Problems;

/// How long the keys that sign access tokens live.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeysSection {
    /// How long a key signs before the next one takes over, from `1d` to `730d`. Default: `90d`.
    rotate_every: String,
    /// How long before it signs a key is published, so that every resource server knows it by then;
    /// at least `12m`, since they may keep the published keys for ten minutes. Default: `1h`.
    publish_before: String,
}

impl Default for KeysSection {
    fn default() -> Self {
        Self {
            rotate_every: "90d".to_owned(),
            publish_before: "1h".to_owned(),
        }
    }
}

const LEAST_ROTATION: Duration = Duration::from_hours(24);
const MOST_ROTATION: Duration = Duration::from_hours(730 * 24);
/// So that between two rotations there is time without one under way.
const MOST_PUBLISH_BEFORE: Duration = Duration::from_hours(12);

impl KeysSection {
    pub(crate) fn check(&self, problems: &mut Problems) -> KeyTimes {
        let rotate_every = durations::between(&self.rotate_every, LEAST_ROTATION, MOST_ROTATION);
        let publish_before = durations::between(
            &self.publish_before,
            KeySchedule::LEAST_PUBLISH_BEFORE,
            MOST_PUBLISH_BEFORE,
        );
        KeyTimes {
            rotate_every: problems.keep("keys.rotate_every", rotate_every, LEAST_ROTATION),
            publish_before: problems.keep(
                "keys.publish_before",
                publish_before,
                KeySchedule::LEAST_PUBLISH_BEFORE,
            ),
        }
    }
}
