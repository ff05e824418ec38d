//! Web origins (RFC 6454): scheme, host and port.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::uri::Authority;
use thiserror::Error;

/// A web origin in its one spelling: `scheme://host`, lower case, with a port only where it is not
/// the scheme's own.
///
/// ```
/// use countersign::Origin;
///
/// let origin: Origin = "https://app.example.org".parse()?;
/// assert_eq!(origin.as_str(), "https://app.example.org");
/// assert!("https://app.example.org/".parse::<Origin>().is_err());
/// assert!("https://*.example.org".parse::<Origin>().is_err());
/// # Ok::<(), countersign::InvalidOrigin>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    text: String,
    authority_start: usize,
}

/// Why a text is not an origin we accept. Says how to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidOrigin {
    /// `*`, or a pattern.
    #[error(
        "is a pattern: with credentials a browser needs exact origins; list each one, such as \
         https://app.example.org"
    )]
    Pattern,
    /// `null`: sandboxed frames and local files of anybody have it.
    #[error("is `null`, which anybody's sandboxed frame can send: list real origins")]
    Null,
    /// Neither `http://` nor `https://`.
    #[error("needs a scheme: write http:// or https:// and the host")]
    Scheme,
    /// A path, a query, a slash at the end, a user name.
    #[error("is more than an origin: write scheme, host and port only, with no slash at the end")]
    MoreThanAnOrigin,
    /// Upper case, or the scheme's own port.
    #[error("is not how browsers write it: use lower case and leave out the scheme's own port")]
    NotCanonical,
    /// No host, or not one that can be.
    #[error("has no valid host")]
    Host,
}

impl Origin {
    /// The origin as browsers write it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host, and port if it is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.text[self.authority_start..]
    }

    /// Host without port; IPv6 addresses in brackets.
    pub fn host(&self) -> &str {
        host_of(self.authority())
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// Whether the host is this machine itself.
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(self.host())
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        if text == "null" {
            return Err(InvalidOrigin::Null);
        }
        if text.contains('*') {
            return Err(InvalidOrigin::Pattern);
        }
        let (scheme, authority) = text.split_once("://").ok_or(InvalidOrigin::Scheme)?;
        let own_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(InvalidOrigin::Scheme),
        };
        if authority.contains(['/', '?', '#', '@', '\\']) {
            return Err(InvalidOrigin::MoreThanAnOrigin);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidOrigin::NotCanonical);
        }
        let parsed: Authority = authority.parse().map_err(|_| InvalidOrigin::Host)?;
        let host = parsed.host();
        if !is_host(host) || authority.ends_with(':') {
            return Err(InvalidOrigin::Host);
        }
        if let Some(port) = authority[host.len()..].strip_prefix(':') {
            let number: u16 = port.parse().map_err(|_| InvalidOrigin::Host)?;
            if number == own_port || port != number.to_string() {
                return Err(InvalidOrigin::NotCanonical);
            }
        }
        let authority_start = scheme.len() + "://".len();
        Ok(Self {
            text: text.to_owned(),
            authority_start,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A name of letters, digits, hyphens and dots without empty labels, or an IP address.
pub(crate) fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

pub(crate) fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// Whether a host is a name of this machine that no other machine can have.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    host == "localhost"
        || host == "[::1]"
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_origins_are_read() {
        for good in [
            "https://app.example.org",
            "https://app.example.org:8443",
            "http://localhost:3000",
            "http://127.0.0.1:5173",
            "http://[::1]:3000",
            "https://xn--bcher-kva.example",
        ] {
            assert_eq!(good.parse::<Origin>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        for (bad, why) in [
            ("*", InvalidOrigin::Pattern),
            ("https://*.com", InvalidOrigin::Pattern),
            ("null", InvalidOrigin::Null),
            ("app.example.org", InvalidOrigin::Scheme),
            ("file:///etc", InvalidOrigin::Scheme),
            ("https://app.example.org/", InvalidOrigin::MoreThanAnOrigin),
            (
                "https://app.example.org/path",
                InvalidOrigin::MoreThanAnOrigin,
            ),
            (
                "https://ana@app.example.org",
                InvalidOrigin::MoreThanAnOrigin,
            ),
            ("HTTPS://APP.EXAMPLE.ORG", InvalidOrigin::NotCanonical),
            ("https://app.example.org:443", InvalidOrigin::NotCanonical),
            ("https://app.example.org:08443", InvalidOrigin::NotCanonical),
            ("https://", InvalidOrigin::Host),
            ("https://app.example.org.", InvalidOrigin::Host),
            ("https://app_.example.org", InvalidOrigin::Host),
            ("https://app`.example.org", InvalidOrigin::Host),
            ("https://app.example.org:", InvalidOrigin::Host),
            ("https://app.example.org:99999", InvalidOrigin::Host),
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(why), "{bad}");
        }
    }

    #[test]
    fn loopback_is_known_by_its_names_only() {
        for name in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback_host(name), "{name}");
        }
        for name in [
            "localhost.example.org",
            "127.0.0.1.example.org",
            "[::2]",
            "10.0.0.1",
        ] {
            assert!(!is_loopback_host(name), "{name}");
        }
    }
}
