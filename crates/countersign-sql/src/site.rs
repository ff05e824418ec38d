//! What both databases have in common of a Django site's own tables.

use countersign_core::error::StoreError;
use countersign_core::store::Powers;

use crate::user_table::Users;

/// The tables of simplejwt's blacklist.
pub(crate) const BLACKLIST_TABLES: [&str; 2] = [
    "token_blacklist_outstandingtoken",
    "token_blacklist_blacklistedtoken",
];

/// The tables that say what users may do. Those between users and the others have names that Django makes
/// from the name of the users table.
pub(crate) fn power_tables(users: &Users) -> [String; 6] {
    let users = &users.name;
    [
        "auth_group".to_owned(),
        "auth_permission".to_owned(),
        "auth_group_permissions".to_owned(),
        "django_content_type".to_owned(),
        format!("{users}_groups"),
        format!("{users}_user_permissions"),
    ]
}

/// The statement of powers, with the marks of its two parameters: the user, and how many rows at most.
pub(crate) fn powers_sql(users: &Users, user: &str, most: &str) -> String {
    let table = &users.name;
    // Django's default for a model's table is `<app>_<model>`, and a model's name has no `_`.
    let model = table.rsplit('_').next().unwrap_or(table);
    let groups = format!("\"{table}_groups\"");
    let permissions = format!("\"{table}_user_permissions\"");
    let owner = format!("\"{model}_id\"");
    format!(
        "SELECT 1 AS kind, auth_group.name AS name
         FROM auth_group JOIN {groups} AS member ON member.group_id = auth_group.id
         WHERE member.{owner} = {user}
         UNION ALL
         SELECT 2, django_content_type.app_label || '.' || auth_permission.codename
         FROM auth_permission
             JOIN django_content_type ON django_content_type.id = auth_permission.content_type_id
         WHERE auth_permission.id IN (
             SELECT permission_id FROM {permissions} WHERE {owner} = {user}
             UNION
             SELECT auth_group_permissions.permission_id
             FROM auth_group_permissions
                 JOIN {groups} AS member ON member.group_id = auth_group_permissions.group_id
             WHERE member.{owner} = {user})
         ORDER BY kind, name LIMIT {most}"
    )
}

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
pub(crate) fn no_power_tables(users: &Users) -> StoreError {
    StoreError::Unavailable(format!(
        "tokens.user_claims names groups or permissions, and the database lacks a table of Django's \
         for them ({}): run `python manage.py migrate` in the Django project, or leave these claims \
         out",
        power_tables(users).join(", ")
    ))
}
