//! The program `countersign`: the service, and the commands around it.
//!
//! [`cli`] says what may be written, [`commands`] does it, [`config`] knows the settings.

mod breached;
mod cli;
mod commands;
mod config;
mod connection;
mod demo;
mod doctor;
mod failure;
mod listener;
mod log_queue;
mod mail;
mod open_files;
mod opening;
mod output;
mod reload;
mod room;
mod root_file;
mod signals;
mod telemetry;
mod tls;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // Also when the rest of this ends in a panic.
    let last_lines = telemetry::LastLines;
    let ended = commands::run(cli);
    drop(last_lines);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(format_args!("countersign: {failure}"));
            failure.exit_code()
        }
    }
}
