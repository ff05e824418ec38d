//! Reads a users table row by row, and changes nothing.

use countersign_core::password::EncodedPassword;
use countersign_core::survey::{Survey, SurveyedUser};
use countersign_core::user::UserId;
use rusqlite::{Connection, Row, params};

use super::failure::Failure;
use super::{rows, statements};
use crate::user_table::{SURVEYED_AT_ONCE, TableFacts, UserColumn, UserTable};

/// # Errors
/// Also if the table is missing or cannot be used.
pub(super) fn read(
    connection: &Connection,
    table: &UserTable,
    survey: &mut Survey,
) -> Result<TableFacts, Failure> {
    let found = statements::columns(connection, table)?;
    let users = table.resolve(&found).map_err(Failure::unavailable)?;
    let page = format!(
        "SELECT {id}, {username}, {email}, {password} FROM {table}
         WHERE {id} > ?1 ORDER BY {id} LIMIT ?2",
        id = users.needed(UserColumn::Id),
        username = users.needed(UserColumn::Username),
        email = users.column(UserColumn::Email).unwrap_or("''"),
        password = users.needed(UserColumn::Password),
        table = users.table,
    );
    let mut statement = connection.prepare(&page)?;
    let mut after = Some(i64::MIN);
    while let Some(last) = after.take() {
        let mut page = statement.query(params![last, SURVEYED_AT_ONCE])?;
        while let Some(row) = page.next()? {
            let id: i64 = row.get(0)?;
            survey.note(&SurveyedUser {
                id: UserId(id),
                username: text(row, 1)?,
                email: text(row, 2)?,
                password: EncodedPassword::new(text(row, 3)?),
            });
            after = Some(id);
        }
    }
    Ok(users.facts(&found, our_tables(connection)?))
}

/// What is no text is taken for none: whoever reads it later refuses it.
fn text<'row>(row: &'row Row<'_>, column: usize) -> Result<&'row str, Failure> {
    Ok(row.get_ref(column)?.as_str().unwrap_or_default())
}

fn our_tables(connection: &Connection) -> Result<Vec<String>, Failure> {
    let mut statement = connection.prepare(
        r"SELECT name FROM sqlite_schema
          WHERE type = 'table' AND name LIKE 'countersign\_%' ESCAPE '\' ORDER BY name",
    )?;
    rows::all(statement.query([])?, |row| Ok(row.get(0)?))
}
