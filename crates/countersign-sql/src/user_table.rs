//! Where users stand: Django's `auth_user`, or the table of a site's own user model.
//!
//! Settings name the table and its columns; what the database really has decides what can be done.
//! Names go into SQL, so they are letters, digits and `_`, and quoted all the same.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// A field of a user, and the column that `auth_user` keeps it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserColumn {
    /// The number.
    Id,
    /// The stored password.
    Password,
    /// The last sign-in.
    LastLogin,
    /// Whether the user has every permission.
    IsSuperuser,
    /// The name to sign in with; for many user models the e-mail address.
    Username,
    /// The given name.
    FirstName,
    /// The family name.
    LastName,
    /// The e-mail address.
    Email,
    /// Whether the user may enter the admin site.
    IsStaff,
    /// Whether the user may sign in.
    IsActive,
    /// When the user was made.
    DateJoined,
}

impl UserColumn {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Id,
        Self::Password,
        Self::LastLogin,
        Self::IsSuperuser,
        Self::Username,
        Self::FirstName,
        Self::LastName,
        Self::Email,
        Self::IsStaff,
        Self::IsActive,
        Self::DateJoined,
    ];

    /// Its name in `auth_user`, and in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Password => "password",
            Self::LastLogin => "last_login",
            Self::IsSuperuser => "is_superuser",
            Self::Username => "username",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Email => "email",
            Self::IsStaff => "is_staff",
            Self::IsActive => "is_active",
            Self::DateJoined => "date_joined",
        }
    }

    /// Whether there is no signing in without it. Of the others, a table without one has the same value
    /// for every user.
    pub const fn is_needed(self) -> bool {
        matches!(
            self,
            Self::Id | Self::Password | Self::Username | Self::IsActive
        )
    }
}

/// A name that cannot be a table's or a column's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("write the name of a table or column alone: up to 63 letters, digits and `_`")]
pub struct NameError;

/// A table's or column's name.
#[derive(Clone, PartialEq, Eq)]
struct Name(String);

impl Name {
    fn new(text: &str) -> Result<Self, NameError> {
        let starts_well =
            text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let is_clean = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        // PostgreSQL cuts longer ones.
        if starts_well && is_clean && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError)
        }
    }

    /// As SQL writes it.
    fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The users table as settings name it. The default is Django's `auth_user`, whose columns have the
/// names of [`UserColumn::name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTable {
    table: Name,
    columns: BTreeMap<UserColumn, Name>,
    notes_logins: bool,
}

const DJANGOS: &str = "auth_user";

impl Default for UserTable {
    fn default() -> Self {
        Self {
            table: Name(DJANGOS.to_owned()),
            columns: BTreeMap::new(),
            notes_logins: true,
        }
    }
}

impl UserTable {
    /// The table of this name, with the columns of Django's.
    ///
    /// # Errors
    /// [`NameError`] if that is no name.
    pub fn named(table: &str) -> Result<Self, NameError> {
        Ok(Self {
            table: Name::new(table)?,
            ..Self::default()
        })
    }

    /// Sets the column that keeps a field. It must be there, then.
    ///
    /// # Errors
    /// [`NameError`] if that is no name.
    pub fn column(mut self, column: UserColumn, name: &str) -> Result<Self, NameError> {
        self.columns.insert(column, Name::new(name)?);
        Ok(self)
    }

    /// Sets whether a login is noted in the user's `last_login`, as Django notes it. Default: it is.
    #[must_use]
    pub fn notes_logins(mut self, notes_logins: bool) -> Self {
        self.notes_logins = notes_logins;
        self
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.table.0
    }

    /// Whether it is the one that we make where there is none.
    pub(crate) fn is_djangos(&self) -> bool {
        self.table.0 == DJANGOS
    }

    /// Whether it is that one, column for column.
    pub(crate) fn is_djangos_own(&self) -> bool {
        self.is_djangos() && self.columns.is_empty()
    }

    /// Matches the names with the columns that the database has.
    ///
    /// # Errors
    /// What is missing or cannot be used, for people.
    pub(crate) fn resolve(&self, found: &[FoundColumn]) -> Result<Users, String> {
        let table = self.name();
        if found.is_empty() {
            return Err(format!(
                "there is no table {table}: name the table of your user model in django.user_table"
            ));
        }
        let mut columns = BTreeMap::new();
        let mut missing = Vec::new();
        for column in UserColumn::ALL {
            let chosen = self.columns.get(&column);
            let name = chosen.map_or(column.name(), |name| &name.0);
            if found.iter().any(|found| found.name == name) {
                columns.insert(column, Name(name.to_owned()).quoted());
            } else if chosen.is_some() || column.is_needed() {
                missing.push(format!("{name} (django.columns.{})", column.name()));
            }
        }
        if !missing.is_empty() {
            return Err(format!(
                "the table {table} has no column {}: name the columns of your user model in \
                 django.columns",
                missing.join(", ")
            ));
        }
        let email = self.columns.get(&UserColumn::Email);
        let email = email.map_or(UserColumn::Email.name(), |name| &name.0);
        let users = Users {
            email_is_unique: found
                .iter()
                .any(|found| found.name == email && found.is_unique),
            table: self.table.quoted(),
            name: table.to_owned(),
            columns,
            notes_logins: self.notes_logins,
        };
        users.check_kinds(found)?;
        Ok(users)
    }
}

/// A column that the users table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundColumn {
    pub(crate) name: String,
    /// The type, as the database calls it.
    pub(crate) kind: String,
    /// Whether no two rows have the same in it.
    pub(crate) is_unique: bool,
    /// Whether rows are found by it without reading all.
    pub(crate) is_indexed: bool,
}

/// What a survey tells of a users table apart from its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// The fields that it has no column for.
    pub missing: Vec<UserColumn>,
    /// Whether no two users have the same e-mail address, to the letter.
    pub email_is_unique: bool,
    /// Whether users are found by their e-mail address without reading all.
    pub email_is_indexed: bool,
    /// The tables of Countersign's that stand beside it.
    pub our_tables: Vec<String>,
}

/// How many rows a survey reads at a time, so that nobody waits for it for long.
pub(crate) const SURVEYED_AT_ONCE: i64 = 5_000;

/// The users table as it is, in words of SQL.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    /// The table.
    pub(crate) table: String,
    /// Its name, unquoted.
    pub(crate) name: String,
    columns: BTreeMap<UserColumn, String>,
    notes_logins: bool,
    /// Whether no two users have the same e-mail address, to the letter.
    pub(crate) email_is_unique: bool,
}

impl Users {
    /// A column, if the table has it.
    pub(crate) fn column(&self, column: UserColumn) -> Option<&str> {
        self.columns.get(&column).map(String::as_str)
    }

    /// A column without which the table would have been refused.
    pub(crate) fn needed(&self, column: UserColumn) -> &str {
        self.column(column)
            .expect("a table without a needed column is refused")
    }

    /// The column that a login is noted in, if it shall be.
    pub(crate) fn noted_login(&self) -> Option<&str> {
        self.column(UserColumn::LastLogin)
            .filter(|_| self.notes_logins)
    }

    /// The column of the e-mail address, if it is not the username's.
    pub(crate) fn email_apart(&self) -> Option<&str> {
        self.column(UserColumn::Email)
            .filter(|email| *email != self.needed(UserColumn::Username))
    }

    /// Whether the name to sign in with is the e-mail address.
    pub(crate) fn is_named_by_email(&self) -> bool {
        self.column(UserColumn::Email) == Some(self.needed(UserColumn::Username))
    }

    /// The assignments of those columns that the table has, each with its value: `"a" = 1, "b" = 2`.
    /// With nothing to assign, one that changes nothing.
    pub(crate) fn assign(&self, assignments: &[(Option<&str>, &str)]) -> String {
        let assigned: Vec<_> = assignments
            .iter()
            .filter_map(|(column, value)| Some(format!("{} = {value}", (*column)?)))
            .collect();
        if assigned.is_empty() {
            let id = self.needed(UserColumn::Id);
            return format!("{id} = {id}");
        }
        assigned.join(", ")
    }

    /// Refuses to write powers that the table has no room for: they would not be had, and the answer
    /// would say that they are.
    pub(crate) fn refuse_roles(&self, is_staff: bool, is_superuser: bool) -> Result<(), String> {
        for (asked, column) in [
            (is_staff, UserColumn::IsStaff),
            (is_superuser, UserColumn::IsSuperuser),
        ] {
            if asked && self.column(column).is_none() {
                return Err(format!(
                    "the table {} has no column for {name}: name it in django.columns.{name}, or \
                     give this power in Django",
                    self.name,
                    name = column.name()
                ));
            }
        }
        Ok(())
    }

    /// Refuses to write an e-mail address that the table has no room for.
    pub(crate) fn refuse_email(&self) -> Result<(), String> {
        if self.column(UserColumn::Email).is_some() {
            return Ok(());
        }
        Err(format!(
            "the table {} has no column for e-mail addresses: name it in django.columns.email",
            self.name
        ))
    }

    /// What can be said of the table apart from its rows.
    pub(crate) fn facts(&self, found: &[FoundColumn], our_tables: Vec<String>) -> TableFacts {
        let of_email = self.column(UserColumn::Email).and_then(|email| {
            let name = email.trim_matches('"');
            found.iter().find(|found| found.name == name)
        });
        TableFacts {
            missing: UserColumn::ALL
                .into_iter()
                .filter(|column| self.column(*column).is_none())
                .collect(),
            email_is_unique: of_email.is_some_and(|email| email.is_unique),
            email_is_indexed: of_email.is_some_and(|email| email.is_unique || email.is_indexed),
            our_tables,
        }
    }

    fn check_kinds(&self, found: &[FoundColumn]) -> Result<(), String> {
        let of = |column| {
            let name = self.needed(column).trim_matches('"');
            found.iter().find(|found| found.name == name)
        };
        let (table, id) = (&self.name, of(UserColumn::Id));
        if let Some(id) = id.filter(|id| !id.kind.to_ascii_lowercase().contains("int")) {
            return Err(format!(
                "the users of {table} have no numbers: {table}.{} is of type {}, and only integers \
                 (AutoField, BigAutoField) can be a user's id here",
                id.name, id.kind
            ));
        }
        if let Some(username) = of(UserColumn::Username).filter(|username| !username.is_unique) {
            return Err(format!(
                "two users of {table} may have the same {name}, and it could not be told who signs \
                 in: make the column unique (unique=True in the user model)",
                name = username.name
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(columns: &[(&str, &str)]) -> Vec<FoundColumn> {
        let column = |(name, kind): &(&str, &str)| FoundColumn {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            is_unique: *name == "username" || *name == "email",
            is_indexed: true,
        };
        columns.iter().map(column).collect()
    }

    const OWN_MODEL: &[(&str, &str)] = &[
        ("id", "bigint"),
        ("password", "varchar(128)"),
        ("email", "varchar(254)"),
        ("is_active", "bool"),
    ];

    #[test]
    fn a_name_is_a_name_and_nothing_else() {
        for good in ["auth_user", "_u", "Users2", &"a".repeat(63)] {
            assert!(UserTable::named(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "2users",
            "auth user",
            "auth_user;DROP TABLE x",
            "a\"b",
            "public.users",
            "a\0b",
            "usér",
            &"a".repeat(64),
        ] {
            assert_eq!(UserTable::named(bad), Err(NameError), "{bad:?}");
            let column = UserTable::default().column(UserColumn::Email, bad);
            assert_eq!(column, Err(NameError), "{bad:?}");
        }
    }

    #[test]
    fn a_model_whose_users_sign_in_by_email_needs_few_columns() {
        let table = UserTable::named("accounts_user").unwrap();
        let refused = table.resolve(&found(OWN_MODEL)).unwrap_err();
        assert!(
            refused.contains("username (django.columns.username)"),
            "{refused}"
        );
        let table = table.column(UserColumn::Username, "email").unwrap();
        let users = table.resolve(&found(OWN_MODEL)).unwrap();
        assert_eq!(users.needed(UserColumn::Username), "\"email\"");
        assert_eq!(users.email_apart(), None);
        assert_eq!(users.column(UserColumn::FirstName), None);
        assert_eq!(users.noted_login(), None);
        assert!(users.refuse_roles(false, false).is_ok());
        let refused = users.refuse_roles(true, false).unwrap_err();
        assert!(refused.contains("django.columns.is_staff"), "{refused}");
    }

    #[test]
    fn a_column_that_was_named_must_be_there() {
        let table = UserTable::named("accounts_user")
            .unwrap()
            .column(UserColumn::Username, "email")
            .unwrap()
            .column(UserColumn::FirstName, "nickname")
            .unwrap();
        let refused = table.resolve(&found(OWN_MODEL)).unwrap_err();
        assert!(
            refused.contains("nickname (django.columns.first_name)"),
            "{refused}"
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        let table = UserTable::default();
        let refused = table.resolve(&[]).unwrap_err();
        assert!(refused.contains("django.user_table"), "{refused}");

        let table = table.column(UserColumn::Username, "email").unwrap();
        let mut columns = found(OWN_MODEL);
        columns[0].kind = "char(32)".to_owned();
        let refused = table.resolve(&columns).unwrap_err();
        assert!(refused.contains("BigAutoField"), "{refused}");

        let mut columns = found(OWN_MODEL);
        columns[2].is_unique = false;
        let refused = table.resolve(&columns).unwrap_err();
        assert!(refused.contains("unique=True"), "{refused}");
    }

    #[test]
    fn logins_are_noted_unless_told_otherwise() {
        let columns = UserColumn::ALL.map(|column| (column.name(), "integer"));
        let noted = |table: UserTable| {
            let users = table.resolve(&found(&columns)).unwrap();
            users.noted_login().map(str::to_owned)
        };
        assert_eq!(
            noted(UserTable::default()),
            Some("\"last_login\"".to_owned())
        );
        assert_eq!(noted(UserTable::default().notes_logins(false)), None);
    }
}
