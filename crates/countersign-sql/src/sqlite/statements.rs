//! The statements that reach into the users table, for the table as it is.

use rusqlite::Connection;

use super::failure::Failure;
use super::rows::{self, session_columns};
use crate::site::powers_sql;
use crate::user_table::{FoundColumn, UserColumn, UserTable, Users};

/// Every statement in which users stand, built once.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) users: Users,
    pub(super) find: String,
    pub(super) credentials: String,
    pub(super) credentials_by_id: String,
    pub(super) verified: String,
    pub(super) by_email: String,
    pub(super) email_used: String,
    pub(super) write_email: String,
    pub(super) list: String,
    pub(super) sample_passwords: String,
    pub(super) any: String,
    pub(super) create: String,
    pub(super) names: String,
    pub(super) name_of: String,
    pub(super) forget_outdated_names: String,
    pub(super) forget_names: String,
    pub(super) update_profile: String,
    pub(super) write_password: String,
    pub(super) write_active: String,
    pub(super) write_roles: String,
    pub(super) note_login: String,
    pub(super) delete: String,
    pub(super) find_session: String,
    pub(super) rotate: String,
    pub(super) powers: String,
}

impl Statements {
    /// Looks at the columns that the table has.
    ///
    /// # Errors
    /// What is missing or cannot be used.
    pub(super) fn read(connection: &Connection, table: &UserTable) -> Result<Self, Failure> {
        let found = columns(connection, table)?;
        let users = table.resolve(&found).map_err(Failure::unavailable)?;
        Ok(Self::new(users))
    }

    fn new(users: Users) -> Self {
        let table = &users.table;
        let id = users.needed(UserColumn::Id);
        let password = users.needed(UserColumn::Password);
        let username = users.needed(UserColumn::Username);
        let is_active = users.needed(UserColumn::IsActive);
        let email = users.column(UserColumn::Email).unwrap_or(username);
        let user = user_columns(&users, &format!("{table}."));
        let roles = users.assign(&[
            (users.column(UserColumn::IsStaff), "?1"),
            (users.column(UserColumn::IsSuperuser), "?2"),
        ]);
        let [first_name, last_name] =
            [UserColumn::FirstName, UserColumn::LastName].map(|column| users.column(column));
        let changed_first = format!("coalesce(?1, {})", first_name.unwrap_or_default());
        let changed_last = format!("coalesce(?2, {})", last_name.unwrap_or_default());
        let names = users.assign(&[(first_name, &changed_first), (last_name, &changed_last)]);
        let upgraded = format!("coalesce(?3, {password})");
        let login = users.assign(&[(users.noted_login(), "?2"), (Some(password), &upgraded)]);
        Self {
            powers: powers_sql(&users, "?1", "?2"),
            find: format!("SELECT {user} FROM {table} WHERE {id} = ?1"),
            credentials: format!("SELECT {user}, {password} FROM {table} WHERE {username} = ?1"),
            credentials_by_id: format!("SELECT {user}, {password} FROM {table} WHERE {id} = ?1"),
            verified: format!(
                "SELECT {user}, {password} FROM countersign_email JOIN {table}
                     ON {table}.{id} = countersign_email.user_id
                         AND {table}.{email} = countersign_email.address
                 WHERE countersign_email.folded = ?1"
            ),
            by_email: format!(
                "SELECT {user}, {password} FROM {table}
                 WHERE lower({table}.{email}) IN (?1, ?4) OR {table}.{email} = ?2
                 ORDER BY {verified} DESC, {table}.{id} LIMIT ?3",
                verified = verified(&users, &format!("{table}.")),
            ),
            email_used: format!("SELECT 1 FROM {table} WHERE {email} = ?1"),
            write_email: format!("UPDATE {table} SET {email} = ?2 WHERE {id} = ?1"),
            list: format!(
                r"SELECT {user} FROM {table}
                  WHERE {id} > ?1
                      AND (?2 IS NULL OR {username} LIKE ?2 ESCAPE '\' OR {email} LIKE ?2 ESCAPE '\')
                  ORDER BY {id} LIMIT ?3"
            ),
            sample_passwords: format!(
                "SELECT * FROM (SELECT {password} FROM {table} ORDER BY {id} LIMIT ?1)
                 UNION SELECT * FROM (SELECT {password} FROM {table} ORDER BY {id} DESC LIMIT ?1)"
            ),
            any: format!("SELECT EXISTS (SELECT 1 FROM {table})"),
            create: create(&users, &user),
            names: format!(
                "SELECT auth_user.{id}, CAST(auth_user.{username} AS TEXT),
                     known.username IS auth_user.{username}
                 FROM {table} AS auth_user
                 LEFT JOIN countersign_name AS known ON known.user_id = auth_user.{id}
                 WHERE auth_user.{id} > ?1 ORDER BY auth_user.{id} LIMIT ?2"
            ),
            name_of: format!("SELECT {id}, CAST({username} AS TEXT) FROM {table} WHERE {id} = ?1"),
            forget_outdated_names: format!(
                "DELETE FROM countersign_name
                 WHERE (small IN (?1, ?2) OR capital IN (?1, ?2)) AND NOT EXISTS (
                     SELECT 1 FROM {table} AS auth_user
                     WHERE auth_user.{id} = user_id
                         AND auth_user.{username} = countersign_name.username)
                 RETURNING user_id"
            ),
            forget_names: format!(
                "DELETE FROM countersign_name
                 WHERE user_id > ?1 AND user_id <= coalesce(?2, 9223372036854775807)
                     AND NOT EXISTS (
                         SELECT 1 FROM {table} AS auth_user WHERE auth_user.{id} = user_id)"
            ),
            update_profile: format!("UPDATE {table} SET {names} WHERE {id} = ?3 RETURNING {user}"),
            write_password: format!("UPDATE {table} SET {password} = ?2 WHERE {id} = ?1"),
            write_active: format!("UPDATE {table} SET {is_active} = ?2 WHERE {id} = ?1"),
            write_roles: format!("UPDATE {table} SET {roles} WHERE {id} = ?3"),
            note_login: format!("UPDATE {table} SET {login} WHERE {id} = ?1"),
            delete: format!("DELETE FROM {table} WHERE {id} = ?1"),
            find_session: format!(
                "SELECT {session}, {user}
                 FROM countersign_session LEFT JOIN {table} AS auth_user
                     ON auth_user.{id} = countersign_session.user_id
                 WHERE countersign_session.id = ?1",
                session = session_columns!(),
                user = user_columns(&users, "auth_user."),
            ),
            rotate: format!(
                "UPDATE countersign_session SET generation = ?3, rotated_at = ?4
                 WHERE id = ?1 AND generation = ?2 AND ended_at IS NULL AND EXISTS (
                     SELECT 1 FROM {table} AS auth_user
                     WHERE auth_user.{id} = user_id AND auth_user.{is_active})"
            ),
            users,
        }
    }
}

/// The columns that the users table has; none if there is no such table.
pub(super) fn columns(
    connection: &Connection,
    table: &UserTable,
) -> Result<Vec<FoundColumn>, Failure> {
    let mut statement = connection.prepare(
        r#"SELECT info.name, info.type,
               EXISTS (
                   SELECT 1 FROM pragma_index_list(?1) AS list
                   WHERE list."unique" AND NOT list.partial AND info.name = (
                       SELECT group_concat(name) FROM pragma_index_info(list.name))),
               EXISTS (
                   SELECT 1 FROM pragma_index_list(?1) AS list, pragma_index_info(list.name) AS part
                   WHERE part.seqno = 0 AND part.name = info.name)
           FROM pragma_table_info(?1) AS info"#,
    )?;
    rows::all(statement.query([table.name()])?, |row| {
        Ok(FoundColumn {
            name: row.get(0)?,
            kind: row.get(1)?,
            is_unique: row.get(2)?,
            is_indexed: row.get(3)?,
        })
    })
}

/// The columns that [`rows::user`] reads, in its order, and what stands for those that the table does
/// not have.
fn user_columns(users: &Users, of: &str) -> String {
    let column = |(column, missing): (UserColumn, &str)| match users.column(column) {
        Some(column) => format!("{of}{column}"),
        None => missing.to_owned(),
    };
    let who = [
        (UserColumn::Id, ""),
        (UserColumn::Username, ""),
        (UserColumn::Email, "''"),
    ];
    let rest = [
        (UserColumn::FirstName, "''"),
        (UserColumn::LastName, "''"),
        (UserColumn::IsActive, ""),
        (UserColumn::IsStaff, "0"),
        (UserColumn::IsSuperuser, "0"),
        (UserColumn::LastLogin, "NULL"),
        (UserColumn::DateJoined, "'1970-01-01 00:00:00'"),
    ];
    let mut columns: Vec<_> = who.into_iter().map(column).collect();
    columns.push(verified(users, of));
    columns.extend(rest.into_iter().map(column));
    columns.join(", ")
}

/// Whether a user has proven the address that the table says.
fn verified(users: &Users, of: &str) -> String {
    let Some(email) = users.column(UserColumn::Email) else {
        return "0".to_owned();
    };
    format!(
        "EXISTS (SELECT 1 FROM countersign_email
             WHERE countersign_email.user_id = {of}{id} AND countersign_email.address = {of}{email})",
        id = users.needed(UserColumn::Id),
    )
}

/// Makes a user, in the columns that there are.
fn create(users: &Users, user: &str) -> String {
    let username = users.needed(UserColumn::Username);
    // The two that every table has come last: a statement takes as many values as its highest number says.
    let (columns, values): (Vec<_>, Vec<_>) = [
        (users.column(UserColumn::IsSuperuser), "?1"),
        (users.email_apart(), "?2"),
        (users.column(UserColumn::IsStaff), "?3"),
        (users.column(UserColumn::DateJoined), "?4"),
        (users.column(UserColumn::FirstName), "?5"),
        (users.column(UserColumn::LastName), "?6"),
        (Some(username), "?7"),
        (users.column(UserColumn::Password), "?8"),
        (users.column(UserColumn::IsActive), "1"),
        (users.column(UserColumn::LastLogin), "NULL"),
    ]
    .into_iter()
    .filter_map(|(column, value)| Some((column?, value)))
    .unzip();
    format!(
        "INSERT INTO {table} ({columns}) VALUES ({values})
         ON CONFLICT ({username}) DO NOTHING
         RETURNING {user}",
        table = users.table,
        columns = columns.join(", "),
        values = values.join(", "),
    )
}
