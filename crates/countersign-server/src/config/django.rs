//! `[django]`: the site whose users these are.

use countersign_sql::{UserColumn, UserTable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::secret_text::SecretText;

/// The Django site whose users these are. Nothing need be set for one that uses `auth_user`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DjangoSection {
    /// The table of users: that of the site's own user model (`AUTH_USER_MODEL`), if it has one, like
    /// `accounts_user`. Made if it is `auth_user` and there is none. Default: `auth_user`.
    user_table: String,
    /// When a user's `last_login` is written: at each `login`, as Django does it, or `never`.
    /// Default: `login`.
    last_login: String,
    columns: ColumnsSection,
    /// Whose refresh tokens are exchanged for sessions, once each, so that nobody is signed out by the
    /// cut-over: those of the hand-written `recipe` (`user_id`, `iat`, `exp`), or `simplejwt`'s. See
    /// `docs/django.md`. Default: `none`.
    #[schemars(extend("enum" = ["none", "recipe", "simplejwt"]))]
    pub(super) tokens: String,
    /// The last day, in UTC, on which they are: `2027-01-31`. Needed with `django.tokens`; by the time
    /// that the site's refresh tokens live nobody needs it any longer. At most 400 days ahead. Default: none.
    pub(super) tokens_until: Option<String>,
    /// The key that the site signs its refresh tokens with (HS256): the recipe's
    /// `REFRESH_TOKEN_SECRET`, or for simplejwt its `SIGNING_KEY`, which unless set is Django's
    /// `SECRET_KEY`. Whoever holds it can sign in as anybody until `django.tokens_until`. Default: none.
    pub(super) secret_key: Option<SecretText>,
    /// The name of the cookie in which the site keeps its refresh token. Default: `refreshtoken`.
    pub(super) cookie: String,
}

/// The columns of the users table, where they have other names than in `auth_user`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ColumnsSection {
    /// The column of the user's number, an integer. It must be there. Default: `id`.
    id: Option<String>,
    /// The column of the stored password. It must be there. Default: `password`.
    password: Option<String>,
    /// The column of what users sign in with (`USERNAME_FIELD`), often `email`. It must be there, and
    /// unique. Default: `username`.
    username: Option<String>,
    /// The column of the e-mail address. Without one nobody has any. Default: `email`.
    email: Option<String>,
    /// The column of the given name. Without one nobody has any. Default: `first_name`.
    first_name: Option<String>,
    /// The column of the family name. Without one nobody has any. Default: `last_name`.
    last_name: Option<String>,
    /// The column that tells whether the user may sign in. It must be there. Default: `is_active`.
    is_active: Option<String>,
    /// The column that tells who may enter the admin site. Without one nobody may.
    /// Default: `is_staff`.
    is_staff: Option<String>,
    /// The column that tells who has every permission. Without one nobody has. Default: `is_superuser`.
    is_superuser: Option<String>,
    /// The column of the last sign-in. Without one it is not noted. Default: `last_login`.
    last_login: Option<String>,
    /// The column of when the user was made. Without one it is not known. Default: `date_joined`.
    date_joined: Option<String>,
}

impl Default for DjangoSection {
    fn default() -> Self {
        Self {
            user_table: UserTable::default().name().to_owned(),
            last_login: "login".to_owned(),
            columns: ColumnsSection::default(),
            tokens: "none".to_owned(),
            tokens_until: None,
            secret_key: None,
            cookie: "refreshtoken".to_owned(),
        }
    }
}

impl ColumnsSection {
    fn get(&self, column: UserColumn) -> Option<&str> {
        let name = match column {
            UserColumn::Id => &self.id,
            UserColumn::Password => &self.password,
            UserColumn::Username => &self.username,
            UserColumn::Email => &self.email,
            UserColumn::FirstName => &self.first_name,
            UserColumn::LastName => &self.last_name,
            UserColumn::IsActive => &self.is_active,
            UserColumn::IsStaff => &self.is_staff,
            UserColumn::IsSuperuser => &self.is_superuser,
            UserColumn::LastLogin => &self.last_login,
            UserColumn::DateJoined => &self.date_joined,
        };
        name.as_deref()
    }
}

impl DjangoSection {
    /// The users table.
    pub(crate) fn check(&self, problems: &mut Problems) -> UserTable {
        let table = UserTable::named(&self.user_table).map_err(|error| error.to_string());
        let mut table = problems.keep("django.user_table", table, UserTable::default());
        for column in UserColumn::ALL {
            let Some(name) = self.columns.get(column) else {
                continue;
            };
            match table.clone().column(column, name) {
                Ok(with_it) => table = with_it,
                Err(error) => {
                    let key = format!("django.columns.{}", column.name());
                    problems.add(&key, error.to_string());
                }
            }
        }
        match self.last_login.as_str() {
            "login" => table,
            "never" => table.notes_logins(false),
            _ => {
                problems.add("django.last_login", "write login or never");
                table
            }
        }
    }
}
