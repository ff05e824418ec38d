//! `[notices]`: of what users are told by mail.

use countersign_core::notices::NoticeSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of what users are told by mail, so that they notice what they did not do. Only where mail is sent
/// (`mail.transport`) and to those who have an address.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NoticesSection {
    /// A sign-in from a device that the user has not signed in from before: one that does not show the
    /// cookie of a known device, and from which, by its network and browser, none of the latest sign-ins
    /// came. The very first sign-in is none. Default: `true`.
    new_device: bool,
    /// The password was changed, reset, or set by an administrator. Default: `true`.
    password_changed: bool,
    /// The e-mail address was changed; the old one is told. Default: `true`.
    email_changed: bool,
    /// A sign-in after this many that were refused since the last one. It is also an event,
    /// `login_after_failures`, where no mail is sent, too. `0` for never. Default: `8`.
    failures_before_success: u32,
}

impl Default for NoticesSection {
    fn default() -> Self {
        let NoticeSettings {
            new_device,
            password_changed,
            email_changed,
            failures_before_success,
        } = NoticeSettings::default();
        Self {
            new_device,
            password_changed,
            email_changed,
            failures_before_success,
        }
    }
}

impl NoticesSection {
    pub(crate) fn check(&self) -> NoticeSettings {
        NoticeSettings {
            new_device: self.new_device,
            password_changed: self.password_changed,
            email_changed: self.email_changed,
            failures_before_success: self.failures_before_success,
        }
    }
}
