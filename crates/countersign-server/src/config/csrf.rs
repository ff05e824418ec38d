//! `[csrf]`: when the CSRF token is demanded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the CSRF token is demanded.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CsrfSection {
    /// Whether unsafe requests with an access token must show `X-CSRFToken` as well. Only for an
    /// API that browsers never call may this be false. Default: `true`.
    pub(crate) require_for_bearer: bool,
}

impl Default for CsrfSection {
    fn default() -> Self {
        Self {
            require_for_bearer: true,
        }
    }
}
