//! `config`: the settings in force, what is wrong with them, and what there is to set.

use serde_json::json;

use crate::cli::Config;
use crate::config::{Chosen, reference};
use crate::failure::Failure;
use crate::output;

pub(super) fn run(chosen: &Chosen, command: &Config) -> Result<(), Failure> {
    match command {
        Config::Show { json } => show(chosen, *json),
        Config::Check { json } => check(chosen, *json),
        Config::Schema { markdown: true } => {
            output::text(reference::markdown());
            Ok(())
        }
        Config::Schema { markdown: false } => {
            output::json(&reference::schema());
            Ok(())
        }
    }
}

fn show(chosen: &Chosen, json: bool) -> Result<(), Failure> {
    let settings = chosen.load()?;
    if json {
        output::json(&settings.report.to_json());
    } else {
        output::text(settings.report.to_toml());
    }
    Ok(())
}

fn check(chosen: &Chosen, json: bool) -> Result<(), Failure> {
    let checked = chosen.load();
    if json {
        let (problems, warnings) = match &checked {
            Ok(settings) => (json!([]), json!(settings.warnings)),
            Err(problems) => (problems.to_json(), json!([])),
        };
        let ok = checked.is_ok();
        output::json(&json!({ "ok": ok, "problems": problems, "warnings": warnings }));
    }
    let settings = checked?;
    if json {
        return Ok(());
    }
    for warning in &settings.warnings {
        output::note(format_args!("warning: {warning}"));
    }
    if settings.report.is_in_environment("secrets.root") {
        output::note(
            "hint: the environment is easier to see than a file that only its owner can read: \
             consider secrets.root_file",
        );
    }
    let mode = if settings.server.development {
        " (development)"
    } else {
        ""
    };
    output::line(format_args!(
        "The settings are good for {}{mode}.",
        settings.http.public_url
    ));
    Ok(())
}
