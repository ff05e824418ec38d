//! Transitions and reads of registrations, which become users when an address is proven.

use countersign_core::audit::Trail;
use countersign_core::mailed_token::{MailedTokenId, Registration};
use countersign_core::store::{CreateUserError, Register, RegisterOutcome, RegistrationOutcome};
use countersign_core::user::{Email, Likeness};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::mailed_tokens::{self, bytes};
use super::names::{self, Standing};
use super::rows::{self, registration_columns};
use super::statements::Statements;
use super::writer::Transition;
use super::{audit, mail, users};

pub(super) fn find(
    connection: &Connection,
    id: MailedTokenId,
) -> Result<Option<Registration>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        registration_columns!(),
        " FROM countersign_registration WHERE id = ?1"
    ))?;
    rows::one(statement.query([bytes(&id)])?, rows::registration)
}

pub(super) fn with_email(
    connection: &Connection,
    address: &Email,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Registration>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        registration_columns!(),
        " FROM countersign_registration WHERE folded_email = ?1 AND expires_at > ?2
         ORDER BY id DESC LIMIT ?3"
    ))?;
    let found = statement.query(params![address.folded(), now.as_millisecond(), most])?;
    rows::all(found, rows::registration)
}

pub(super) fn register(
    connection: &Connection,
    sql: &Statements,
    register: &Register,
) -> Result<RegisterOutcome, Failure> {
    let new = &register.registration;
    if sql.users.is_named_by_email() && new.username != new.email {
        return Ok(RegisterOutcome::NameIsNotTheAddress);
    }
    sql.users.refuse_email().map_err(Failure::unavailable)?;
    let names_are_unique = !sql.users.is_named_by_email();
    let likeness = Likeness::of(&new.username);
    if names_are_unique {
        match names::standing(connection, sql, &likeness)? {
            Standing::Free => {}
            Standing::Taken => return Ok(RegisterOutcome::UsernameTaken),
            Standing::Unknown => return Ok(RegisterOutcome::NamesUnknown),
        }
    }
    let Likeness { small, capital } = likeness;
    // A reservation that has expired is none.
    connection
        .prepare_cached(
            "DELETE FROM countersign_registration
             WHERE (small IN (?1, ?2) OR capital IN (?1, ?2)) AND expires_at <= ?3",
        )?
        .execute(params![small, capital, new.created_at.as_millisecond()])?;
    let mut reserve = connection.prepare_cached(
        "INSERT INTO countersign_registration
             (id, username, small, capital, email, folded_email, password, first_name, last_name,
              created_at, expires_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
         WHERE NOT (?12 AND EXISTS (
             SELECT 1 FROM countersign_registration
             WHERE small IN (?3, ?4) OR capital IN (?3, ?4)))",
    )?;
    let reserved = reserve.execute(params![
        bytes(&new.id),
        new.username,
        small,
        capital,
        new.email,
        Email::fold(&new.email),
        new.password.as_str(),
        new.first_name,
        new.last_name,
        new.created_at.as_millisecond(),
        new.expires_at.as_millisecond(),
        names_are_unique,
    ])?;
    if reserved == 0 {
        return Ok(RegisterOutcome::UsernameTaken);
    }
    if register.mail.is_none() {
        forget(connection, new.id)?;
    }
    mail::queue(connection, register.mail.as_ref())?;
    audit::record(connection, &register.trail.entries)?;
    Ok(RegisterOutcome::Pending)
}

pub(super) fn complete(
    transition: &mut Transition<'_>,
    sql: &Statements,
    id: MailedTokenId,
    now: Timestamp,
    trail: &Trail,
) -> Result<RegistrationOutcome, Failure> {
    let found = find(transition.connection, id)?;
    let Some(registration) = found.filter(|found| found.expires_at > now) else {
        return Ok(RegistrationOutcome::Dead);
    };
    let email = registration.email.clone();
    let new = registration.into_user(now)?;
    if users::verified(transition.connection, sql, &Email::fold(&email))?.is_some() {
        return Ok(RegistrationOutcome::EmailTaken);
    }
    let named = users::credentials(transition.connection, sql, new.username.as_str())?;
    if named.is_some() {
        return Ok(RegistrationOutcome::UsernameTaken);
    }
    // Some user models let nobody have the address of another, proven or not.
    if users::refuses_email(transition.connection, sql, &email)? {
        return Ok(RegistrationOutcome::EmailTaken);
    }
    let mut user = match users::create(transition, sql, &new, trail)? {
        Ok(user) => user,
        Err(CreateUserError::NamesUnknown) => return Ok(RegistrationOutcome::NamesUnknown),
        Err(_) => return Ok(RegistrationOutcome::UsernameTaken),
    };
    forget(transition.connection, id)?;
    mailed_tokens::prove(transition.connection, &email, user.id, now)?;
    user.email_verified = true;
    Ok(RegistrationOutcome::Made(user))
}

fn forget(connection: &Connection, id: MailedTokenId) -> Result<(), Failure> {
    connection
        .prepare_cached("DELETE FROM countersign_registration WHERE id = ?1")?
        .execute([bytes(&id)])?;
    Ok(())
}
