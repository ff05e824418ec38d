//! `[cors]`: which other origins' pages may call the API.

use countersign::{InvalidOrigin, Origin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::server::ServerSettings;

/// Which other origins' pages may call the API.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CorsSection {
    /// The exact origins of pages that may call the API with credentials, like
    /// `https://app.example.org`. Default: none; in development `localhost` and `127.0.0.1` on
    /// ports 3000 and 5173.
    origins: Vec<String>,
}

/// Where the usual development servers of single-page apps live.
const DEVELOPMENT_ORIGINS: [&str; 4] = [
    "http://localhost:3000",
    "http://127.0.0.1:3000",
    "http://localhost:5173",
    "http://127.0.0.1:5173",
];

impl CorsSection {
    pub(crate) fn check(&self, server: &ServerSettings, problems: &mut Problems) -> Vec<Origin> {
        if self.origins.is_empty() && server.development {
            return DEVELOPMENT_ORIGINS
                .map(|text| text.parse().expect("these are origins"))
                .to_vec();
        }
        let mut origins = Vec::new();
        for text in &self.origins {
            match check_origin(text, server.development) {
                Ok(origin) => origins.push(origin),
                Err(refusal) => problems.add("cors.origins", format!("\"{text}\" {refusal}")),
            }
        }
        origins
    }
}

fn check_origin(text: &str, development: bool) -> Result<Origin, String> {
    let origin: Origin = text
        .parse()
        .map_err(|refusal: InvalidOrigin| refusal.to_string())?;
    if !origin.is_https() && !origin.is_loopback() && !development {
        let message = "is plain http: such a page can be changed on the way and would then act for \
                       whoever is signed in; serve it over https";
        return Err(message.to_owned());
    }
    Ok(origin)
}
