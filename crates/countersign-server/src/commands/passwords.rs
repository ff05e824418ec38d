//! Where the command line takes passwords from: a terminal, where they are asked for twice, standard
//! input, or a variable. Never from an argument, which every user of the machine can see.

use std::io::{self, Read as _};

use countersign_core::error::AuthError;
use countersign_core::password::{MAX_PASSWORD_BYTES, Password};
use countersign_core::validation::ValidationError;

use crate::failure::Failure;
use crate::output;

/// The variable that gives the first superuser's password.
pub(super) const SUPERUSER_VARIABLE: &str = "COUNTERSIGN_SUPERUSER_PASSWORD";

/// How often a password is asked for before giving up.
const TRIES: usize = 5;

/// Reads a password from standard input: all of it, without the line break at its end.
pub(super) fn from_standard_input() -> Result<Password, Failure> {
    password(text_from_standard_input()?)
}

/// The same, of a password that is not ours to judge.
pub(super) fn text_from_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let most = MAX_PASSWORD_BYTES as u64 + 3;
    io::stdin()
        .take(most)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::Failed(format!(
                "the password cannot be read from standard input: {error}"
            ))
        })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// The password of [`SUPERUSER_VARIABLE`], if it is set.
pub(super) fn from_environment() -> Result<Option<Password>, Failure> {
    match std::env::var(SUPERUSER_VARIABLE) {
        Ok(text) => password(text).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        // Not the error's display: it quotes the value.
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::Failed(format!(
            "{SUPERUSER_VARIABLE} is not UTF-8"
        ))),
    }
}

/// Asks for a password twice until both agree and `accept` takes it.
pub(super) async fn ask<T>(
    accept: impl AsyncFn(Password) -> Result<T, AuthError>,
) -> Result<T, Failure> {
    for _ in 0..TRIES {
        let first = prompt("Password: ")?;
        if prompt("Password (again): ")? != first {
            output::note("The two are not the same. Try again.");
            continue;
        }
        let refusal = match Password::new(first) {
            Err(refusal) => refusal,
            Ok(password) => match accept(password).await {
                Err(AuthError::Validation(refusal)) if is_about_the_password(&refusal) => refusal,
                other => return Ok(other?),
            },
        };
        for error in &refusal.0 {
            output::note(&error.detail);
        }
    }
    Err(Failure::Failed("no password was set".to_owned()))
}

/// Asks for a password that is there already.
pub(super) fn ask_once(question: &str) -> Result<String, Failure> {
    prompt(question)
}

fn is_about_the_password(refusal: &ValidationError) -> bool {
    refusal.0.iter().all(|error| error.field == "password")
}

fn prompt(question: &str) -> Result<String, Failure> {
    rpassword::prompt_password(question)
        .map_err(|error| Failure::Failed(format!("the terminal cannot be read: {error}")))
}

fn password(text: String) -> Result<Password, Failure> {
    Password::new(text).map_err(|refusal| Failure::from(AuthError::from(refusal)))
}
