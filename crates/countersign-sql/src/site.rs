//! What both databases have in common of a Django site's own tables.

use countersign_core::error::StoreError;
use countersign_core::store::Powers;

/// The tables of simplejwt's blacklist.
pub(crate) const BLACKLIST_TABLES: [&str; 2] = [
    "token_blacklist_outstandingtoken",
    "token_blacklist_blacklistedtoken",
];

/// The tables that say what users may do.
pub(crate) const POWER_TABLES: [&str; 6] = [
    "auth_group",
    "auth_permission",
    "auth_group_permissions",
    "auth_user_groups",
    "auth_user_user_permissions",
    "django_content_type",
];

/// What a row of the statement of powers names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Group,
    Permission,
}

impl Power {
    /// The kind that a row's first column says.
    pub(crate) const fn from_number(number: i32) -> Self {
        if number == 1 {
            Self::Group
        } else {
            Self::Permission
        }
    }
}

pub(crate) fn collect_powers(rows: Vec<(Power, String)>) -> Powers {
    let mut powers = Powers::default();
    for (power, name) in rows {
        match power {
            Power::Group => powers.groups.push(name),
            Power::Permission => powers.permissions.push(name),
        }
    }
    powers
}

/// What is said where there are no such tables.
pub(crate) fn no_power_tables() -> StoreError {
    StoreError::Unavailable(format!(
        "tokens.user_claims names groups or permissions, and the database lacks a table of Django's \
         for them ({}): run `python manage.py migrate` in the Django project, or leave these claims \
         out",
        POWER_TABLES.join(", ")
    ))
}
