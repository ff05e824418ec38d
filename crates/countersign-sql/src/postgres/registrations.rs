//! Transitions and reads of registrations, which become users when an address is proven.

use countersign_core::audit::Trail;
use countersign_core::error::StoreError;
use countersign_core::mailed_token::{MailedTokenId, Registration};
use countersign_core::store::{CreateUserError, Register, RegisterOutcome, RegistrationOutcome};
use countersign_core::user::{Email, Likeness};
use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::failure::Failure;
use super::link::Link;
use super::names::{self, Standing};
use super::readers::Readers;
use super::rows::{self, registration_columns};
use super::statements::Statements;
use super::writer::Done;
use super::{audit, mail, mailed_tokens, users};

pub(super) async fn find(
    readers: &Readers,
    id: MailedTokenId,
) -> Result<Option<Registration>, StoreError> {
    let select = concat!(
        "SELECT ",
        registration_columns!(),
        " FROM countersign_registration WHERE id = $1"
    );
    readers
        .read_one(select, &[(&id.0, Type::UUID)], rows::registration)
        .await
}

pub(super) async fn with_email(
    readers: &Readers,
    address: &Email,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Registration>, StoreError> {
    let select = concat!(
        "SELECT ",
        registration_columns!(),
        " FROM countersign_registration WHERE folded_email = $1 AND expires_at > $2
         ORDER BY id DESC LIMIT $3"
    );
    readers
        .read(
            select,
            &[
                (&address.folded(), Type::TEXT),
                (&now.as_millisecond(), Type::INT8),
                (&i64::from(most), Type::INT8),
            ],
            rows::registration,
        )
        .await
}

pub(super) async fn register(
    link: &Link,
    sql: &Statements,
    register: &Register,
) -> Result<Done<RegisterOutcome>, Failure> {
    let new = &register.registration;
    if sql.users.is_named_by_email() && new.username != new.email {
        return Ok(Done::quietly(RegisterOutcome::NameIsNotTheAddress));
    }
    sql.users.refuse_email().map_err(Failure::unavailable)?;
    let likeness = Likeness::of(&new.username);
    link.begin_with(names::LOCK, &[]).await?;
    let names_are_unique = !sql.users.is_named_by_email();
    let standing = if names_are_unique {
        names::standing(link, sql, &likeness).await?
    } else {
        Standing::Free
    };
    let refusal = match standing {
        Standing::Free => None,
        Standing::Taken => Some(RegisterOutcome::UsernameTaken),
        Standing::Unknown => Some(RegisterOutcome::NamesUnknown),
    };
    if let Some(refusal) = refusal {
        // What it has noted on the way holds.
        link.commit().await?;
        return Ok(Done::quietly(refusal));
    }
    let (small, capital) = (&likeness.small.as_slice(), &likeness.capital.as_slice());
    // A reservation that has expired is none.
    let forget = "DELETE FROM countersign_registration
         WHERE (small IN ($1, $2) OR capital IN ($1, $2)) AND expires_at <= $3";
    link.query(
        forget,
        &[
            (small, Type::BYTEA),
            (capital, Type::BYTEA),
            (&new.created_at.as_millisecond(), Type::INT8),
        ],
    )
    .await?;
    let reserve = "INSERT INTO countersign_registration
             (id, username, small, capital, email, folded_email, password, first_name, last_name,
              created_at, expires_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
         WHERE NOT ($12 AND EXISTS (
             SELECT 1 FROM countersign_registration
             WHERE (small IN ($3, $4) OR capital IN ($3, $4)) AND id <> $1))
         ON CONFLICT (id) DO UPDATE SET id = $1
         RETURNING 1";
    let reserved = link
        .query(
            reserve,
            &[
                (&new.id.0, Type::UUID),
                (&new.username, Type::TEXT),
                (small, Type::BYTEA),
                (capital, Type::BYTEA),
                (&new.email, Type::TEXT),
                (&Email::fold(&new.email), Type::TEXT),
                (&new.password.as_str(), Type::TEXT),
                (&new.first_name, Type::TEXT),
                (&new.last_name, Type::TEXT),
                (&new.created_at.as_millisecond(), Type::INT8),
                (&new.expires_at.as_millisecond(), Type::INT8),
                (&names_are_unique, Type::BOOL),
            ],
        )
        .await?;
    if reserved.is_empty() {
        link.roll_back().await?;
        return Ok(Done::quietly(RegisterOutcome::UsernameTaken));
    }
    if register.mail.is_none() {
        let forget = "DELETE FROM countersign_registration WHERE id = $1";
        link.query(forget, &[(&new.id.0, Type::UUID)]).await?;
    }
    mail::queue(link, register.mail.as_ref()).await?;
    audit::leave(link, &register.trail).await?;
    link.commit().await?;
    Ok(Done::quietly(RegisterOutcome::Pending))
}

pub(super) async fn complete(
    link: &Link,
    sql: &Statements,
    id: MailedTokenId,
    now: Timestamp,
    trail: &Trail,
) -> Result<Done<RegistrationOutcome>, Failure> {
    let take = concat!(
        "DELETE FROM countersign_registration WHERE id = $1 AND expires_at > $2 RETURNING ",
        registration_columns!()
    );
    // Before anything else, as whoever makes a user does.
    link.begin_with(names::LOCK, &[]).await?;
    let taken = link
        .query(
            take,
            &[(&id.0, Type::UUID), (&now.as_millisecond(), Type::INT8)],
        )
        .await?;
    let registration = taken.first().map(rows::registration).transpose()?;
    let completed = match registration {
        None => Err(RegistrationOutcome::Dead),
        Some(registration) => make(link, sql, registration, now, trail).await?,
    };
    match completed {
        Ok(done) => {
            link.commit().await?;
            Ok(done)
        }
        Err(outcome) => {
            link.roll_back().await?;
            Ok(Done::quietly(outcome))
        }
    }
}

/// Makes the user, in the transaction that was begun; or says why not.
async fn make(
    link: &Link,
    sql: &Statements,
    registration: Registration,
    now: Timestamp,
    trail: &Trail,
) -> Result<Result<Done<RegistrationOutcome>, RegistrationOutcome>, Failure> {
    let email = registration.email.clone();
    let new = registration.into_user(now)?;
    let named = link
        .query(&sql.credentials, &[(&new.username.as_str(), Type::TEXT)])
        .await?;
    if !named.is_empty() {
        return Ok(Err(RegistrationOutcome::UsernameTaken));
    }
    // Some user models let nobody have the address of another, proven or not.
    if users::refuses_email(link, sql, &email).await? {
        return Ok(Err(RegistrationOutcome::EmailTaken));
    }
    let Done { outcome, changes } = users::create_in(link, sql, &new, trail).await?;
    let mut user = match outcome {
        Ok(user) => user,
        Err(CreateUserError::NamesUnknown) => return Ok(Err(RegistrationOutcome::NamesUnknown)),
        Err(_) => return Ok(Err(RegistrationOutcome::UsernameTaken)),
    };
    if !mailed_tokens::prove(link, sql, &email, user.id, now).await? {
        return Ok(Err(RegistrationOutcome::EmailTaken));
    }
    user.email_verified = true;
    Ok(Ok(Done {
        outcome: RegistrationOutcome::Made(user),
        changes,
    }))
}
