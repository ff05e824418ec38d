//! The commands: one file per word of the command line.

mod audit;
mod config;
mod createsuperuser;
mod demo;
mod django;
mod doctor;
mod keys;
mod migrate;
mod moving;
mod passwords;
mod serve;
mod session;
mod user;

use std::future::Future;

use crate::cli::{Cli, Command, Django};
use crate::config::{Chosen, Settings};
use crate::failure::Failure;
use crate::{output, telemetry};

/// Does what the command line asks.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let chosen = cli.chosen();
    match cli.command {
        Command::Serve(_) => serve::run(&chosen),
        Command::Demo(options) => demo::run(&chosen, &options),
        Command::Createsuperuser(options) => {
            let settings = settings_for_people(&chosen)?;
            block_on(createsuperuser::run(&settings, options))
        }
        Command::User(command) => {
            let settings = settings_for_people(&chosen)?;
            block_on(user::run(&settings, command))
        }
        Command::Session(command) => {
            let settings = settings_for_people(&chosen)?;
            block_on(session::run(&settings, command))
        }
        Command::Keys(command) => {
            let settings = settings_for_people(&chosen)?;
            block_on(keys::run(&settings, command))
        }
        Command::Audit(command) => {
            let settings = settings_for_people(&chosen)?;
            block_on(audit::run(&settings, command))
        }
        Command::Migrate(options) => {
            let settings = settings_for_people(&chosen)?;
            block_on(migrate::run(&settings, &options))
        }
        Command::Django(Django::Adopt { way_back: true }) => {
            let database = chosen.load_database()?;
            block_on(django::show_way_back(&database))
        }
        Command::Django(command) => {
            let settings = settings_for_people(&chosen)?;
            block_on(django::run(&settings, &command))
        }
        Command::Doctor(options) => block_on(doctor::run(&chosen, options)),
        Command::Config(command) => config::run(&chosen, &command),
        Command::Openapi => {
            let description = countersign::openapi(&chosen.load()?.http);
            let text = description.to_pretty_json().map_err(|error| {
                Failure::Failed(format!("the description cannot be written: {error}"))
            })?;
            output::line(text);
            Ok(())
        }
    }
}

/// Reads the settings and starts the log. Commands that people wait for log what goes wrong only,
/// unless a level was asked for.
fn settings_for_people(chosen: &Chosen) -> Result<Settings, Failure> {
    let mut settings = chosen.load()?;
    if !settings.report.is_set("log.level") {
        "warn".clone_into(&mut settings.log.level);
    }
    telemetry::start(&settings.log);
    Ok(settings)
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))?
        .block_on(work)
}
