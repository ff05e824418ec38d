//! The program `countersign`: the service, and the commands around it.
//!
//! [`cli`] says what may be written, [`commands`] does it, [`config`] knows the settings.

mod cli;
mod commands;
mod config;
mod connection;
mod demo;
mod doctor;
mod failure;
mod listener;
mod mail;
mod opening;
mod output;
mod reload;
mod root_file;
mod signals;
mod telemetry;
mod tls;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(format_args!("countersign: {failure}"));
            failure.exit_code()
        }
    }
}
