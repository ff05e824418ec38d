//! The statements that reach into the users table, for the table as it is.

use tokio_postgres::types::Type;

use super::audit::{left, left_of_ends};
use super::changes::{said_ended, said_user_changed, told};
use super::failure::Failure;
use super::link::Link;
use super::rows::{ended_columns, session_columns};
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
    pub(super) forget_outdated_names: String,
    pub(super) forget_names: String,
    pub(super) update_profile: String,
    pub(super) lock: String,
    pub(super) open_session: String,
    pub(super) change_account: String,
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
    pub(super) async fn read(link: &Link, table: &UserTable) -> Result<Self, Failure> {
        let found = columns(link, table).await?;
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
        let user = user_columns(&users);
        Self {
            powers: powers_sql(&users, "$1", "$2"),
            find: format!("SELECT {user} FROM {table} AS auth_user WHERE {id} = $1"),
            credentials: format!(
                "SELECT {user}, {password} FROM {table} AS auth_user WHERE {username} = $1"
            ),
            credentials_by_id: format!(
                "SELECT {user}, {password} FROM {table} AS auth_user WHERE {id} = $1"
            ),
            verified: format!(
                "SELECT {user}, auth_user.{password} FROM countersign_email
                     JOIN {table} AS auth_user ON auth_user.{id} = countersign_email.user_id
                         AND auth_user.{email} = countersign_email.address
                 WHERE countersign_email.folded = $1"
            ),
            by_email: format!(
                "SELECT {user}, auth_user.{password} FROM {table} AS auth_user
                 WHERE lower(auth_user.{email}) IN ($1, $4) OR auth_user.{email} = $2
                 ORDER BY {verified} DESC, auth_user.{id} LIMIT $3",
                verified = verified(&users),
            ),
            email_used: format!("SELECT 1 FROM {table} WHERE {email} = $1 LIMIT 1"),
            write_email: format!("UPDATE {table} SET {email} = $2 WHERE {id} = $1"),
            list: format!(
                r"SELECT {user} FROM {table} AS auth_user
                  WHERE {id} > $1 AND ($2 IS NULL OR {username} ILIKE $2 ESCAPE E'\\'
                      OR {email} ILIKE $2 ESCAPE E'\\')
                  ORDER BY {id} LIMIT $3"
            ),
            sample_passwords: format!(
                "(SELECT {password} FROM {table} ORDER BY {id} LIMIT $1)
                 UNION (SELECT {password} FROM {table} ORDER BY {id} DESC LIMIT $1)"
            ),
            any: format!("SELECT 1 FROM {table} LIMIT 1"),
            create: changing_user(
                &users,
                &create(&users),
                left!("$10", "SELECT changed.id FROM changed"),
            ),
            names: format!(
                "SELECT auth_user.{id}::bigint, auth_user.{username}::text,
                     known.username IS NOT DISTINCT FROM auth_user.{username}::text
                 FROM {table} AS auth_user
                 LEFT JOIN countersign_name AS known ON known.user_id = auth_user.{id}
                 WHERE auth_user.{id} > $1 ORDER BY auth_user.{id} LIMIT $2"
            ),
            // Written so that each row is looked up by its key, also where the planner knows nothing of
            // the table yet and would rather read all of it.
            forget_outdated_names: format!(
                "WITH outdated AS (
                     DELETE FROM countersign_name
                     WHERE (small IN ($1, $2) OR capital IN ($1, $2)) AND username
                         IS DISTINCT FROM (
                             SELECT auth_user.{username}::text FROM {table} AS auth_user
                             WHERE auth_user.{id} = user_id)
                     RETURNING user_id)
                 SELECT renamed.* FROM outdated CROSS JOIN LATERAL (
                     SELECT auth_user.{id}::bigint, auth_user.{username}::text
                     FROM {table} AS auth_user WHERE auth_user.{id} = outdated.user_id
                     OFFSET 0) AS renamed"
            ),
            forget_names: format!(
                "DELETE FROM countersign_name
                 WHERE user_id > $1 AND user_id <= coalesce($2, 9223372036854775807)
                     AND (SELECT true FROM {table} AS auth_user WHERE auth_user.{id} = user_id)
                         IS NULL"
            ),
            update_profile: update_profile(&users),
            lock: format!(
                "SELECT {user}, {password} FROM {table} AS auth_user WHERE {id} = $1
                 FOR NO KEY UPDATE"
            ),
            open_session: open_session(&users),
            change_account: change_account(&users),
            delete: format!("DELETE FROM {table} WHERE {id} = $1"),
            find_session: format!(
                "SELECT {session}, {user}
                 FROM countersign_session LEFT JOIN {table} AS auth_user
                     ON auth_user.{id} = countersign_session.user_id
                 WHERE countersign_session.id = $1",
                session = session_columns!(),
            ),
            rotate: format!(
                "UPDATE countersign_session SET generation = $3, rotated_at = $4
                 WHERE id = $1 AND generation = $2 AND ended_at IS NULL AND EXISTS (
                     SELECT 1 FROM {table} AS auth_user
                     WHERE auth_user.{id} = user_id AND auth_user.{is_active})
                 RETURNING 1"
            ),
            users,
        }
    }
}

/// The columns that the users table has; none if there is no such table.
pub(super) async fn columns(link: &Link, table: &UserTable) -> Result<Vec<FoundColumn>, Failure> {
    let found = link
        .query_once(
            "SELECT attname::text, format_type(atttypid, NULL),
                 EXISTS (
                     SELECT 1 FROM pg_index
                     WHERE indrelid = attrelid AND indkey[0] = attnum AND indnkeyatts = 1
                         AND indisunique AND indisvalid AND indpred IS NULL),
                 EXISTS (
                     SELECT 1 FROM pg_index
                     WHERE indrelid = attrelid AND indkey[0] = attnum AND indisvalid)
             FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
             WHERE relname = $1 AND pg_table_is_visible(pg_class.oid) AND relkind IN ('r', 'p')
                 AND attnum > 0 AND NOT attisdropped",
            &[(&table.name(), Type::TEXT)],
        )
        .await?;
    let column = |row: &tokio_postgres::Row| {
        Ok(FoundColumn {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            is_unique: row.try_get(2)?,
            is_indexed: row.try_get(3)?,
        })
    };
    found.iter().map(column).collect()
}

/// The columns that [`rows::user`](super::rows::user) reads, in its order, from a table or alias named
/// `auth_user`, and what stands for those that the table does not have. Django has made its numbers 32
/// or 64 bits wide.
fn user_columns(users: &Users) -> String {
    let id = users.needed(UserColumn::Id);
    let column = |(column, missing): (UserColumn, &str)| match users.column(column) {
        Some(column) => format!("auth_user.{column}"),
        None => missing.to_owned(),
    };
    let rest = [
        (UserColumn::FirstName, "''::text"),
        (UserColumn::LastName, "''::text"),
        (UserColumn::IsActive, ""),
        (UserColumn::IsStaff, "false"),
        (UserColumn::IsSuperuser, "false"),
        (UserColumn::LastLogin, "NULL::timestamptz"),
        (UserColumn::DateJoined, "'epoch'::timestamptz"),
    ];
    let mut columns = vec![
        format!("auth_user.{id}::bigint AS id"),
        column((UserColumn::Username, "")),
        column((UserColumn::Email, "''::text")),
        verified(users),
    ];
    columns.extend(rest.into_iter().map(column));
    columns.join(", ")
}

/// Whether a user, of a table or alias named `auth_user`, has proven the address that the table says.
fn verified(users: &Users) -> String {
    let Some(email) = users.column(UserColumn::Email) else {
        return "false".to_owned();
    };
    format!(
        "EXISTS (SELECT 1 FROM countersign_email
             WHERE countersign_email.user_id = auth_user.{id}
                 AND countersign_email.address = auth_user.{email})",
        id = users.needed(UserColumn::Id),
    )
}

/// A statement that makes or changes a user, and tells of it and leaves what it leaves.
fn changing_user(users: &Users, change: &str, left: &str) -> String {
    format!(
        "WITH auth_user AS ({change} RETURNING *),
         changed AS (SELECT auth_user.{id} AS id FROM auth_user), {told}, {left}
         SELECT {user} FROM auth_user",
        id = users.needed(UserColumn::Id),
        told = told!(said_user_changed!("changed")),
        user = user_columns(users),
    )
}

/// Changes a user's names, in the columns that there are.
fn update_profile(users: &Users) -> String {
    let [first_name, last_name] =
        [UserColumn::FirstName, UserColumn::LastName].map(|column| users.column(column));
    let changed_first = format!("coalesce($3, {})", first_name.unwrap_or_default());
    let changed_last = format!("coalesce($4, {})", last_name.unwrap_or_default());
    let names = users.assign(&[(first_name, &changed_first), (last_name, &changed_last)]);
    let (table, id) = (&users.table, users.needed(UserColumn::Id));
    changing_user(
        users,
        &format!("UPDATE {table} SET {names} WHERE {id} = $2"),
        left!("$5", "SELECT NULL::bigint FROM changed"),
    )
}

/// Makes a user, in the columns that there are.
fn create(users: &Users) -> String {
    let username = users.needed(UserColumn::Username);
    let (columns, values): (Vec<_>, Vec<_>) = [
        (users.column(UserColumn::Password), "$2"),
        (users.column(UserColumn::IsSuperuser), "$3"),
        (Some(username), "$4"),
        (users.email_apart(), "$5"),
        (users.column(UserColumn::IsStaff), "$6"),
        (users.column(UserColumn::DateJoined), "$7"),
        (users.column(UserColumn::IsActive), "true"),
        (users.column(UserColumn::LastLogin), "NULL"),
        (users.column(UserColumn::FirstName), "$8"),
        (users.column(UserColumn::LastName), "$9"),
    ]
    .into_iter()
    .filter_map(|(column, value)| Some((column?, value)))
    .unzip();
    format!(
        "INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT ({username}) DO NOTHING",
        table = users.table,
        columns = columns.join(", "),
        values = values.join(", "),
    )
}

/// Notes a login, opens its session, and ends those that end for it.
///
/// A transition that cannot know whether it was committed may be tried again: then the session is there
/// already, and is this one. If it is another, nothing is done.
fn open_session(users: &Users) -> String {
    let password = users.needed(UserColumn::Password);
    let upgraded = format!("coalesce($4, {password})");
    format!(
        "WITH login AS (
             UPDATE {table} SET {login}
             WHERE {id} = $2 AND NOT EXISTS (
                 SELECT 1 FROM countersign_session
                 WHERE countersign_session.id = $5
                     AND NOT (user_id = $2 AND opened_at = $6 AND ended_at IS NULL))
             RETURNING {id} AS id),
         opened AS (
             INSERT INTO countersign_session (id, user_id, generation, opened_at, rotated_at,
                 remember, address, user_agent)
             SELECT $5, $2, $7, $6, $8, $9, $10, $11 FROM login
             ON CONFLICT (id) DO NOTHING
             RETURNING 1),
         surplus AS (
             SELECT id FROM countersign_session
             WHERE user_id = $2 AND ended_at IS NULL AND id <> $5 AND id IS DISTINCT FROM $12
             ORDER BY rotated_at DESC, id DESC
             OFFSET coalesce($13 - 1, 0) LIMIT CASE WHEN $13 IS NULL THEN 0 END),
         over AS (
             SELECT $12 AS id, $14 AS reason FROM login WHERE $12 IS NOT NULL
             UNION ALL SELECT surplus.id, $15 FROM surplus, login),
         ended AS (
             UPDATE countersign_session
             SET ended_at = greatest($6, rotated_at), end_reason = over.reason, ended_by = $16
             FROM over WHERE countersign_session.id = over.id AND ended_at IS NULL
             RETURNING {ended}), {told}, {left}, {left_of_ends}
         SELECT ended.* FROM login LEFT JOIN ended ON true",
        table = users.table,
        id = users.needed(UserColumn::Id),
        login = users.assign(&[(users.noted_login(), "$3"), (Some(password), &upgraded)]),
        ended = ended_columns!(),
        told = told!(concat!(
            said_ended!(),
            " UNION ALL ",
            said_user_changed!("login")
        )),
        left = left!("$17", "SELECT NULL::bigint FROM opened"),
        left_of_ends = left_of_ends!("$17"),
    )
}

/// Changes an account, and ends the sessions that end with it.
fn change_account(users: &Users) -> String {
    let new_or_kept = |column, parameter| {
        let column = users.column(column);
        (
            column,
            format!("coalesce({parameter}, {})", column.unwrap_or_default()),
        )
    };
    let columns = [
        new_or_kept(UserColumn::Password, "$3"),
        new_or_kept(UserColumn::IsActive, "$4"),
        new_or_kept(UserColumn::IsStaff, "$5"),
        new_or_kept(UserColumn::IsSuperuser, "$6"),
    ];
    let assignments = columns
        .each_ref()
        .map(|(column, value)| (*column, value.as_str()));
    format!(
        "WITH changed AS (
             UPDATE {table} SET {assignments} WHERE {id} = $2
             RETURNING {id} AS id),
         live AS (
             SELECT id FROM countersign_session
             WHERE user_id = $2 AND ended_at IS NULL AND $7 IS NOT NULL AND id IS DISTINCT FROM $10
             ORDER BY id FOR NO KEY UPDATE),
         ended AS (
             UPDATE countersign_session
             SET end_reason = $7, ended_at = greatest($8, rotated_at), ended_by = $9
             FROM live WHERE countersign_session.id = live.id
             RETURNING {ended}), {told}, {left}, {left_of_ends}
         SELECT * FROM ended",
        table = users.table,
        id = users.needed(UserColumn::Id),
        assignments = users.assign(&assignments),
        ended = ended_columns!(),
        told = told!(concat!(
            said_ended!(),
            " UNION ALL ",
            said_user_changed!("changed")
        )),
        left = left!("$11", "SELECT NULL::bigint FROM changed"),
        left_of_ends = left_of_ends!("$11"),
    )
}
