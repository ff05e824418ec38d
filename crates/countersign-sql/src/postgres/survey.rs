//! Reads a users table row by row, and changes nothing.

use countersign_core::password::EncodedPassword;
use countersign_core::survey::{Survey, SurveyedUser};
use countersign_core::user::UserId;
use tokio_postgres::types::Type;

use super::failure::Failure;
use super::link::Link;
use super::statements;
use crate::user_table::{SURVEYED_AT_ONCE, TableFacts, UserColumn, UserTable};

/// # Errors
/// Also if the table is missing or cannot be used.
pub(super) async fn read(
    link: &Link,
    table: &UserTable,
    survey: &mut Survey,
) -> Result<TableFacts, Failure> {
    let found = statements::columns(link, table).await?;
    let users = table.resolve(&found).map_err(Failure::unavailable)?;
    let page = format!(
        "SELECT {id}::bigint, {username}::text, {email}::text, {password}::text FROM {table}
         WHERE {id} > $1 ORDER BY {id} LIMIT $2",
        id = users.needed(UserColumn::Id),
        username = users.needed(UserColumn::Username),
        email = users.column(UserColumn::Email).unwrap_or("''"),
        password = users.needed(UserColumn::Password),
        table = users.table,
    );
    let mut after = Some(i64::MIN);
    while let Some(last) = after.take() {
        let parameters = [
            (&last as _, Type::INT8),
            (&SURVEYED_AT_ONCE as _, Type::INT8),
        ];
        for row in link.query(&page, &parameters).await? {
            let id: i64 = row.try_get(0)?;
            let text = |column| {
                row.try_get::<_, Option<&str>>(column)
                    .map(Option::unwrap_or_default)
            };
            survey.note(&SurveyedUser {
                id: UserId(id),
                username: text(1)?,
                email: text(2)?,
                password: EncodedPassword::new(text(3)?),
            });
            after = Some(id);
        }
    }
    Ok(users.facts(&found, our_tables(link).await?))
}

async fn our_tables(link: &Link) -> Result<Vec<String>, Failure> {
    let tables = link
        .query_once(
            r"SELECT relname::text FROM pg_class
              WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)
                  AND relname LIKE 'countersign\_%' ORDER BY relname",
            &[],
        )
        .await?;
    tables.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
