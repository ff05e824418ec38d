//! `[log]`: what is logged, and how it looks.

use std::io::IsTerminal as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::problems::Problems;
use super::suggest;

/// What is logged, and how it looks. The log goes to standard error.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSection {
    /// `pretty` for people, `json` for programs, `auto` for whichever standard error is: a terminal
    /// or not. Default: `auto`.
    #[schemars(extend("enum" = ["auto", "pretty", "json"]))]
    format: String,
    /// How much is logged: `error`, `warn`, `info`, `debug` or `trace`, or several after commas with
    /// a module's name, like `info,countersign_core=debug`. Libraries are never logged beyond
    /// `info`: their traces would show cookies. Read again on SIGHUP. Default: `info`.
    level: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            format: "auto".to_owned(),
            level: "info".to_owned(),
        }
    }
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Pretty,
    Json,
}

/// What is logged, and how it looks, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl LogSection {
    pub(crate) fn check(&self, problems: &mut Problems) -> LogSettings {
        let by_terminal = if std::io::stderr().is_terminal() {
            LogFormat::Pretty
        } else {
            LogFormat::Json
        };
        let format = match self.format.as_str() {
            "auto" => Ok(by_terminal),
            "pretty" => Ok(LogFormat::Pretty),
            "json" => Ok(LogFormat::Json),
            other => {
                let meant = suggest::nearest_word(other, &["auto", "pretty", "json"]);
                let meant = meant.map_or(String::new(), |word| format!("did you mean {word}? "));
                Err(format!("\"{other}\": {meant}take auto, pretty or json"))
            }
        };
        LogSettings {
            format: problems.keep("log.format", format, by_terminal),
            level: problems.keep("log.level", parse_level(&self.level), "info".to_owned()),
        }
    }
}

fn parse_level(text: &str) -> Result<String, String> {
    let refusal = || {
        let message = "write error, warn, info, debug or trace, or several like \
                       info,countersign_core=debug";
        message.to_owned()
    };
    // A word alone that is no level would be taken for a module's name, and log all of it.
    let is_good = |directive: &str| match directive.rsplit_once('=') {
        None => LEVELS.contains(&directive),
        Some((_, level)) => LEVELS.contains(&level),
    };
    if !text.split(',').map(str::trim).all(is_good) || EnvFilter::try_new(text).is_err() {
        return Err(refusal());
    }
    Ok(text.to_owned())
}
