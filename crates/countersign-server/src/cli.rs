//! The command line: what may be written, and what each word means.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Arg, Args, Parser, Subcommand, value_parser};
use countersign::Origin;

use crate::config::{Chosen, Override};

/// Countersign, the account and login service for single-page apps and REST APIs.
///
/// `countersign serve` starts it and makes everything it needs. Settings come from countersign.toml,
/// the environment and these options; `countersign config show` tells which are in force.
///
/// Exit status: 0 done, 1 failed, 2 wrong use, 78 settings refused.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    verbatim_doc_comment,
    subcommand_required = true
)]
#[command(
    arg_required_else_help = true,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// The settings file [default: countersign.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The database, like sqlite://countersign.db
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What the options say of the settings.
    pub(crate) fn chosen(&self) -> Chosen {
        let mut overrides = Vec::new();
        if let Some(url) = &self.database {
            let (key, option) = ("database.url", "--database");
            overrides.push(Override {
                key,
                option,
                value: url.clone(),
            });
        }
        if let Command::Serve(Serve {
            listen: Some(address),
        }) = &self.command
        {
            let (key, option) = ("server.listen", "--listen");
            overrides.push(Override {
                key,
                option,
                value: address.to_string(),
            });
        }
        Chosen {
            file: self.config.clone(),
            overrides,
            moves_users: matches!(
                &self.command,
                Command::Migrate(options) if options.from.is_some() || options.to.is_some()
            ),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service
    Serve(Serve),
    /// Run a throw-away service with a user, and a small single-page app on another origin to play with
    ///
    /// The page shows the recipe at work: the access token's life, refreshes, sessions, and what becomes
    /// of requests that a hostile page forges. All is real, for this machine alone, and forgotten at the
    /// end. It uses neither your settings nor your database.
    Demo(Demo),
    /// Make a user who may do everything
    Createsuperuser(CreateSuperuser),
    /// Make, list and change users
    #[command(subcommand)]
    User(User),
    /// List and end sessions
    #[command(subcommand)]
    Session(Session),
    /// List, rotate and revoke the keys that sign access tokens
    #[command(subcommand)]
    Keys(Keys),
    /// List and follow what happened: sign-ins and refusals, changes of accounts, sessions and keys
    #[command(subcommand)]
    Audit(Audit),
    /// Bring the database to the version that this program needs, or move to another one
    ///
    /// With --from or --to, users, sessions and signing keys move from SQLite into an empty PostgreSQL
    /// database, and nobody is signed out. Meanwhile the old one is not written to, and a service on it
    /// answers 503; afterwards it is closed. What is not named is the database of the settings: a URL
    /// with a password belongs there.
    Migrate(Migrate),
    /// Look at the users of a Django site, and take them over where they stand
    #[command(subcommand)]
    Django(Django),
    /// Say which settings fit a page, and look at a running service as a browser would
    ///
    /// Compares the settings in force with what the page needs, then asks the service and tells what
    /// does not arrive, and what to do about it: CORS, cookies, headers that a proxy drops, https,
    /// clocks, keys. Changes nothing, and needs no account; with --username it signs in, refreshes and
    /// signs out again.
    Doctor(Doctor),
    /// Show, check and explain the settings
    #[command(subcommand)]
    Config(Config),
    /// Print the API's description, OpenAPI in JSON
    Openapi,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address and port to listen on, like 127.0.0.1:8000
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// The options for settings and database are not for it: it refuses them, and does not show them either.
#[derive(Debug, Args)]
#[command(
    arg = Arg::new("config").long("config").value_parser(value_parser!(PathBuf)).hide(true),
    arg = Arg::new("database").long("database").hide(true)
)]
pub(crate) struct Demo {
    /// Where the service listens, like 127.0.0.1:8000 [default: that, or the next port that is free]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The page's port on localhost [default: 3000, or the next that is free]
    #[arg(long, value_name = "PORT")]
    pub(crate) page_port: Option<u16>,
    /// Run nothing; write the page's files into this directory, to start an app of your own from
    #[arg(long, value_name = "DIR", conflicts_with_all = ["listen", "page_port"])]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The page's origin, like https://app.example.com [default: those of cors.origins]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) page: Option<Origin>,
    /// The origin of an API of yours that the page shows its token to; it is asked as the page would
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) api: Option<Origin>,
    /// What to ask for there, like /things: something that wants a token
    #[arg(long, value_name = "PATH", requires = "api", default_value = "/", value_parser = path)]
    pub(crate) api_path: String,
    /// Where browsers find the service, like https://auth.example.com [default: server.public_url]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) url: Option<Origin>,
    /// Sign in as this user, too; asks for the password
    #[arg(long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Certificate authorities to believe instead of the system's, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A path of printable ASCII, as requests have it.
fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("write a path like /things, percent-encoded".to_owned())
}

/// Make a user who may do everything.
///
/// Asks on a terminal for what is not given. The password is asked for twice, or taken from
/// COUNTERSIGN_SUPERUSER_PASSWORD or from standard input; never from an argument, which others could
/// see.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CreateSuperuser {
    /// The name to sign in with
    #[arg(long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The e-mail address; may be empty
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// Never ask
    #[arg(long)]
    pub(crate) no_input: bool,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user
    Add(AddUser),
    /// List users, by number
    List {
        /// Only users whose name or e-mail address contains this, in either case
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a user
    Show {
        /// The user's name
        username: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a user's password; every session of the user ends
    SetPassword {
        /// The user's name
        username: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Set a user's e-mail address, which is to be proven then; the old one is told by mail
    SetEmail {
        /// The user's name
        username: String,
        /// The address
        #[arg(value_name = "ADDRESS")]
        email: String,
    },
    /// Let a user sign in again
    Activate {
        /// The user's name
        username: String,
    },
    /// Keep a user from signing in; every session of the user ends
    Deactivate {
        /// The user's name
        username: String,
    },
    /// Make a user a superuser; every session of the user ends
    Promote {
        /// The user's name
        username: String,
        /// Only let the user enter the admin site
        #[arg(long)]
        staff: bool,
    },
    /// Take a user's powers away; every session of the user ends
    Demote {
        /// The user's name
        username: String,
    },
    /// Delete a user; every session of the user ends
    Delete {
        /// The user's name
        username: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddUser {
    /// The name to sign in with
    pub(crate) username: String,
    /// The e-mail address
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) email: String,
    /// Let the user enter the admin site
    #[arg(long)]
    pub(crate) staff: bool,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Set no password: nobody can sign in until one is set
    #[arg(long, conflicts_with = "password_stdin")]
    pub(crate) no_password: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List sessions that are alive, in the order in which they were opened
    List {
        /// Only this user's
        username: Option<String>,
        /// Also those that have ended, with why, when and by whom
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End sessions: a running service refuses their tokens within 250 ms
    End(EndSession),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct EndSession {
    /// The sessions, as `session list` names them
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Every session of this user
    #[arg(long, value_name = "USERNAME")]
    pub(crate) user: Option<String>,
    /// Every session of everybody
    #[arg(long)]
    pub(crate) everybody: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// List the signing keys, newest first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Publish a new key, which signs once every resource server has had the time to fetch it
    Rotate {
        /// Have it sign at once: resource servers that have not fetched it refuse its tokens until then
        #[arg(long)]
        now: bool,
    },
    /// Take the trust from a key: a running service refuses its tokens within 250 ms
    Revoke {
        /// The key, as `keys list` names it
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries, newest first
    List(ListAudit),
    /// Show new entries as they come
    Tail {
        /// Print JSON, an object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListAudit {
    /// Only those that concern this user, by name; by number if the user was deleted
    #[arg(long, value_name = "USERNAME")]
    pub(crate) user: Option<String>,
    /// Only those of this event, like login_refused
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: Option<String>,
    /// Only those of this session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Only those since then: how long ago, like 2h, or a day or instant in UTC, like 2026-11-24
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only those before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// At most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub(crate) limit: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Change nothing; fail if there is something to do
    #[arg(long)]
    pub(crate) check: bool,
    /// The database to move away from, like sqlite://countersign.db
    #[arg(long, value_name = "URL", conflicts_with = "check")]
    pub(crate) from: Option<String>,
    /// The database to move to, like postgres://countersign@localhost/accounts
    #[arg(long, value_name = "URL", conflicts_with = "check")]
    pub(crate) to: Option<String>,
    /// Use a database again whose users had moved, as it was then: what has changed since where they
    /// went is not in it
    #[arg(long, conflicts_with_all = ["check", "from", "to"])]
    pub(crate) reopen: bool,
    /// Print JSON of what has moved
    #[arg(long, conflicts_with_all = ["check", "reopen"])]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Django {
    /// Change nothing; tell what is there, what will not work and why; fail if something will not
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check, make Countersign's own tables beside the users, and print the way back
    ///
    /// Nothing that is there is changed. Can be run again.
    Adopt {
        /// Change nothing; print the SQL that removes Countersign's tables
        #[arg(long)]
        way_back: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show the settings in force and where each came from
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the settings and tell everything that is wrong
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the settings file
    Schema {
        /// Print the settings reference in Markdown instead
        #[arg(long)]
        markdown: bool,
    },
}
