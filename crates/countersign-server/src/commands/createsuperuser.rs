//! `createsuperuser`: makes a user who may do everything. Asks like Django's command of that name.

use countersign_core::auth::{Auth, NewAccount};
use countersign_core::error::AuthError;
use countersign_core::password::Password;
use countersign_core::session::EndedBy;
use countersign_core::user::{Email, User, Username};

use crate::cli::CreateSuperuser;
use crate::config::Settings;
use crate::failure::Failure;
use crate::opening::{self, IfMissing};
use crate::output::{self, Safe};

use super::passwords;

pub(super) async fn run(settings: &Settings, options: CreateSuperuser) -> Result<(), Failure> {
    let asks = !options.no_input && output::can_ask();
    if !asks {
        refuse_incomplete(&options)?;
    }
    let auth = opening::open(settings, IfMissing::Create).await?;
    let user = make(&auth, options, asks).await?;
    output::line(format_args!("{} is a superuser now.", Safe(&user.username)));
    Ok(())
}

/// Offers to make the first superuser, to someone who sits at a terminal.
pub(super) async fn offer_superuser(auth: &Auth) -> Result<(), Failure> {
    let answer = ask("There is no user yet. Make a superuser now? [Y/n] ")?;
    if !matches!(answer.to_lowercase().as_str(), "" | "y" | "yes") {
        return Ok(());
    }
    let options = CreateSuperuser {
        username: None,
        email: None,
        no_input: false,
        password_stdin: false,
    };
    let user = make(auth, options, true).await?;
    output::note(format_args!("{} is a superuser now.", Safe(&user.username)));
    Ok(())
}

fn refuse_incomplete(options: &CreateSuperuser) -> Result<(), Failure> {
    let mut missing = Vec::new();
    if options.username.is_none() {
        missing.push("--username NAME".to_owned());
    }
    let given = options.password_stdin || std::env::var_os(passwords::SUPERUSER_VARIABLE).is_some();
    if !given {
        missing.push(format!(
            "a password in {}, or on standard input with --password-stdin",
            passwords::SUPERUSER_VARIABLE
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", and ");
    Err(Failure::WrongUse(format!(
        "there is nobody to ask here: give {missing}"
    )))
}

async fn make(auth: &Auth, options: CreateSuperuser, asks: bool) -> Result<User, Failure> {
    let username = match &options.username {
        Some(name) => Username::parse(name).map_err(AuthError::from)?,
        None => ask_username(auth).await?,
    };
    let email = match &options.email {
        Some(address) => Email::parse(address).map_err(AuthError::from)?,
        None if asks => ask_email()?,
        None => Email::default(),
    };
    let create = async |password: Password| {
        let account = NewAccount {
            username: username.clone(),
            email: email.clone(),
            password: Some(password),
            is_staff: true,
            is_superuser: true,
        };
        auth.create_user(account, EndedBy::CommandLine).await
    };
    if options.password_stdin {
        return Ok(create(passwords::from_standard_input()?).await?);
    }
    match passwords::from_environment()? {
        Some(password) => Ok(create(password).await?),
        None => passwords::ask(create).await,
    }
}

async fn ask_username(auth: &Auth) -> Result<Username, Failure> {
    let default = default_username(auth).await?;
    let question = match &default {
        Some(name) => format!("Username (leave blank to use '{}'): ", name.as_str()),
        None => "Username: ".to_owned(),
    };
    loop {
        let answer = ask(&question)?;
        if let (Some(default), true) = (&default, answer.is_empty()) {
            return Ok(default.clone());
        }
        match Username::parse(&answer) {
            Err(refusal) => refusal
                .0
                .iter()
                .for_each(|error| output::note(&error.detail)),
            Ok(name) if is_taken(auth, &name).await? => {
                output::note("Another user has this name. Choose another one.");
            }
            Ok(name) => return Ok(name),
        }
    }
}

/// The name of whoever sits there, in lower case, if no user has it.
async fn default_username(auth: &Auth) -> Result<Option<Username>, Failure> {
    let name = ["USER", "LOGNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok());
    let Some(name) = name.and_then(|name| Username::parse(&name.to_lowercase()).ok()) else {
        return Ok(None);
    };
    Ok(if is_taken(auth, &name).await? {
        None
    } else {
        Some(name)
    })
}

async fn is_taken(auth: &Auth, name: &Username) -> Result<bool, Failure> {
    match auth.find_user(name.as_str()).await {
        Ok(_) => Ok(true),
        Err(AuthError::NoSuchUser) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn ask_email() -> Result<Email, Failure> {
    loop {
        let answer = ask("E-mail address (may be blank): ")?;
        match Email::parse(&answer) {
            Ok(email) => return Ok(email),
            Err(refusal) => refusal
                .0
                .iter()
                .for_each(|error| output::note(&error.detail)),
        }
    }
}

/// Asks, and takes the end of the input for "enough of this".
fn ask(question: &str) -> Result<String, Failure> {
    output::ask(question)
        .map_err(|error| Failure::Failed(format!("the terminal cannot be read: {error}")))?
        .ok_or_else(|| Failure::Failed("nothing was made".to_owned()))
}
