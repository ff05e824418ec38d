//! `user`: makes, lists and changes users, by the same use cases as the API.

use countersign_core::auth::{Auth, NewAccount};
use countersign_core::error::AuthError;
use countersign_core::password::Password;
use countersign_core::session::EndedBy;
use countersign_core::store::UserQuery;
use countersign_core::user::{Email, User as Account, Username};
use serde_json::{Value, json};

use crate::cli::{AddUser, User};
use crate::config::Settings;
use crate::failure::Failure;
use crate::opening::{self, IfMissing};
use crate::output::{self, Safe};

use super::passwords;

/// How many users are read at a time.
const PAGE: u32 = 500;

pub(super) async fn run(settings: &Settings, command: User) -> Result<(), Failure> {
    if let User::Add(options) = command {
        return Box::pin(add(settings, options)).await;
    }
    let auth = opening::open(settings, IfMissing::Refuse).await?;
    let by = EndedBy::CommandLine;
    match command {
        User::Add(_) => unreachable!("answered above"),
        User::List { search, json } => list(&auth, search, json).await,
        User::Show { username, json } => {
            let user = auth.find_user(&username).await?;
            show(&user, json);
            Ok(())
        }
        User::SetPassword {
            username,
            password_stdin,
        } => {
            let user = auth.find_user(&username).await?;
            set_password(&auth, &user, password_stdin).await?;
            done(&user, "has a new password")
        }
        User::SetEmail { username, email } => {
            let email = Email::parse(&email).map_err(AuthError::from)?;
            let user = auth.find_user(&username).await?;
            let user = auth.set_email(&user, email, by).await?;
            done(&user, "has this e-mail address now")
        }
        User::Activate { username } => {
            let user = auth.find_user(&username).await?;
            done(&auth.set_active(user.id, true, by).await?, "may sign in")
        }
        User::Deactivate { username } => {
            let user = auth.find_user(&username).await?;
            done(
                &auth.set_active(user.id, false, by).await?,
                "may not sign in any more",
            )
        }
        User::Promote { username, staff } => {
            let user = auth.find_user(&username).await?;
            let is_superuser = !staff || user.is_superuser;
            let user = auth.set_roles(user.id, true, is_superuser, by).await?;
            done(
                &user,
                if is_superuser {
                    "is a superuser now"
                } else {
                    "is staff now"
                },
            )
        }
        User::Demote { username } => {
            let user = auth.find_user(&username).await?;
            let user = auth.set_roles(user.id, false, false, by).await?;
            done(&user, "has no special powers any more")
        }
        User::Delete { username, yes } => {
            let user = auth.find_user(&username).await?;
            if !yes && !confirm_deletion(&user)? {
                return Err(Failure::Failed("nothing was deleted".to_owned()));
            }
            auth.delete_user(user.id, by).await?;
            done(&user, "was deleted")
        }
    }
}

async fn add(settings: &Settings, options: AddUser) -> Result<(), Failure> {
    let asks = !options.password_stdin && !options.no_password;
    if asks && !output::can_ask() {
        return Err(nobody_to_ask(
            " With --no-password the user cannot sign in until one is set.",
        ));
    }
    let username = Username::parse(&options.username).map_err(AuthError::from)?;
    let email = Email::parse(&options.email).map_err(AuthError::from)?;
    let auth = opening::open(settings, IfMissing::Create).await?;
    let create = async |password: Option<Password>| {
        let account = NewAccount {
            username: username.clone(),
            email: email.clone(),
            password,
            is_staff: options.staff,
            is_superuser: false,
        };
        auth.create_user(account, EndedBy::CommandLine).await
    };
    let user = if options.no_password {
        create(None).await?
    } else if options.password_stdin {
        create(Some(passwords::from_standard_input()?)).await?
    } else {
        passwords::ask(async |password| create(Some(password)).await).await?
    };
    done(&user, &format!("was made, with number {}", user.id))
}

async fn set_password(auth: &Auth, user: &Account, from_stdin: bool) -> Result<(), Failure> {
    let by = EndedBy::CommandLine;
    if from_stdin {
        auth.set_password(user, passwords::from_standard_input()?, by)
            .await?;
    } else if output::can_ask() {
        passwords::ask(async |password| auth.set_password(user, password, by).await).await?;
    } else {
        return Err(nobody_to_ask(""));
    }
    Ok(())
}

fn nobody_to_ask(more: &str) -> Failure {
    Failure::WrongUse(format!(
        "there is nobody to ask here: give the password on standard input with --password-stdin.{more}"
    ))
}

fn confirm_deletion(user: &Account) -> Result<bool, Failure> {
    if !output::can_ask() {
        let message = "there is nobody to ask here: give --yes to delete without asking";
        return Err(Failure::WrongUse(message.to_owned()));
    }
    let question = format!("Delete {} for good? [y/N] ", Safe(&user.username));
    let answer = output::ask(&question)
        .map_err(|error| Failure::Failed(format!("the terminal cannot be read: {error}")))?;
    Ok(answer.is_some_and(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes")))
}

async fn list(auth: &Auth, search: Option<String>, as_json: bool) -> Result<(), Failure> {
    let mut query = UserQuery {
        search,
        after: None,
        limit: PAGE,
    };
    let mut users = Vec::new();
    loop {
        let page = auth.list_users(&query).await?;
        let Some(last) = page.last() else { break };
        query.after = Some(last.id);
        users.extend(page);
    }
    if as_json {
        output::json(&users.iter().map(to_json).collect());
        return Ok(());
    }
    let width = users
        .iter()
        .map(|user| user.username.chars().count())
        .max()
        .unwrap_or_default();
    for user in &users {
        let name = Safe(&user.username).to_string();
        let line = format!(
            "{:>6}  {name:width$}  {:<9}  {}",
            user.id.0,
            roles(user),
            Safe(&user.email)
        );
        output::line(line.trim_end());
    }
    Ok(())
}

fn roles(user: &Account) -> &'static str {
    match (user.is_active, user.is_superuser, user.is_staff) {
        (false, _, _) => "inactive",
        (true, true, _) => "superuser",
        (true, false, true) => "staff",
        (true, false, false) => "",
    }
}

fn show(user: &Account, as_json: bool) {
    if as_json {
        return output::json(&to_json(user));
    }
    let yes_or_no = |is: bool| if is { "yes" } else { "no" };
    let last_login = user
        .last_login
        .map_or("never".to_owned(), |at| at.to_string());
    for (name, value) in [
        ("number", user.id.to_string()),
        ("username", user.username.clone()),
        ("e-mail", user.email.clone()),
        ("proven", yes_or_no(user.email_verified).to_owned()),
        ("first name", user.first_name.clone()),
        ("last name", user.last_name.clone()),
        ("active", yes_or_no(user.is_active).to_owned()),
        ("staff", yes_or_no(user.is_staff).to_owned()),
        ("superuser", yes_or_no(user.is_superuser).to_owned()),
        ("last login", last_login),
        ("joined", user.date_joined.to_string()),
    ] {
        output::line(format!("{name:<12}{}", Safe(value)).trim_end());
    }
}

fn to_json(user: &Account) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "email_verified": user.email_verified,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "is_active": user.is_active,
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "last_login": user.last_login.map(|at| at.to_string()),
        "date_joined": user.date_joined.to_string(),
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it ends every branch of the match above"
)]
fn done(user: &Account, what: &str) -> Result<(), Failure> {
    output::line(format_args!("{} {what}.", Safe(&user.username)));
    Ok(())
}
