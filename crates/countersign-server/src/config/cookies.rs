//! `[cookies]`: the names and reach of the session's two cookies.

use std::net::Ipv4Addr;

use countersign::CookieSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http_token;
use super::problems::Problems;
use super::server::ServerSettings;

/// The names and reach of the session's two cookies.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CookiesSection {
    /// Whether the page lives on another site than the service; the cookies are then
    /// `SameSite=None; Secure; Partitioned`, which needs https. Default: `false`.
    cross_site: bool,
    /// The domain of the CSRF cookie, so that pages on sibling hosts can read it: the host of
    /// `server.public_url` or a parent of it. The refresh cookie never has one. Default: none, this
    /// host only.
    domain: Option<String>,
    /// The name of the refresh cookie. Default: `__Host-Http-refreshtoken`; in development
    /// `refreshtoken`.
    refresh_name: Option<String>,
    /// The name of the CSRF cookie. Default: `csrftoken`.
    csrf_name: String,
}

impl Default for CookiesSection {
    fn default() -> Self {
        Self {
            cross_site: false,
            domain: None,
            refresh_name: None,
            csrf_name: "csrftoken".to_owned(),
        }
    }
}

impl CookiesSection {
    pub(crate) fn check(
        &self,
        server: &ServerSettings,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> CookieSettings {
        let https = server.public_url.is_https();
        if self.cross_site && !https {
            let message = "browsers take cookies from another site over https only: make \
                           server.public_url https, or leave this false";
            problems.add("cookies.cross_site", message);
        }
        if let Some(refusal) = self
            .domain
            .as_deref()
            .and_then(|domain| refuse_domain(domain, server.public_url.host()))
        {
            problems.add("cookies.domain", refusal);
        }
        let default = CookieSettings::for_https(https);
        let refresh_name = self.refresh_name.clone().unwrap_or(default.refresh_name);
        self.check_names(&refresh_name, https, problems);
        if https && !has_prefix(&refresh_name, "__Host-") {
            let message = "cookies.refresh_name: without the prefix __Host-Http- or __Host- a \
                           neighbouring host can plant this cookie";
            warnings.push(message.to_owned());
        }
        CookieSettings {
            secure: https,
            cross_site: self.cross_site,
            domain: self.domain.clone(),
            refresh_name,
            csrf_name: self.csrf_name.clone(),
            device_name: default.device_name,
        }
    }

    fn check_names(&self, refresh_name: &str, https: bool, problems: &mut Problems) {
        let names = [
            ("cookies.refresh_name", refresh_name),
            ("cookies.csrf_name", &self.csrf_name),
        ];
        for (key, name) in names {
            if !http_token::is_token(name) {
                let message = "use letters, digits and - _ . only (RFC 6265)";
                problems.add(key, message);
            }
            if !https
                && ["__Host-", "__Secure-", "__Http-"]
                    .iter()
                    .any(|p| has_prefix(name, p))
            {
                let message = "browsers refuse this prefix over plain http: leave it out";
                problems.add(key, message);
            }
        }
        let device_name = CookieSettings::for_https(https).device_name;
        for (key, name) in names {
            if name.eq_ignore_ascii_case(&device_name) {
                problems.add(key, "the cookie by which devices are known has this name");
            }
        }
        if refresh_name.eq_ignore_ascii_case(&self.csrf_name) {
            problems.add(
                "cookies.csrf_name",
                "both cookies have this name: give each its own",
            );
        }
        if ["__Http-", "__Host-Http-"]
            .iter()
            .any(|p| has_prefix(&self.csrf_name, p))
        {
            let message = "with this prefix no script could read it, and the page must: leave the \
                           prefix out";
            problems.add("cookies.csrf_name", message);
        } else if has_prefix(&self.csrf_name, "__Host-") && self.domain.is_some() {
            let message = "browsers refuse this prefix together with cookies.domain: leave one out";
            problems.add("cookies.csrf_name", message);
        }
    }
}

/// Browsers compare the prefixes without regard to case.
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn refuse_domain(domain: &str, host: &str) -> Option<String> {
    if host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok() {
        return Some("server.public_url has an IP address, and those have no domain".to_owned());
    }
    if let Some(rest) = domain.strip_prefix('.') {
        return Some(format!("leave out the dot in front: {rest}"));
    }
    if domain != domain.to_lowercase() {
        return Some(format!("write it in lower case: {}", domain.to_lowercase()));
    }
    let is_parent = host
        .strip_suffix(domain)
        .is_some_and(|rest| rest.ends_with('.'));
    if domain.is_empty() || (domain != host && !is_parent) {
        return Some(format!(
            "this is neither {host} nor a parent of it, so browsers would refuse it"
        ));
    }
    if !domain.contains('.') {
        return Some("browsers refuse a bare top-level name: add a label in front".to_owned());
    }
    None
}
