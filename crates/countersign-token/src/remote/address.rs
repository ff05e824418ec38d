//! Where something is fetched from.

use std::net::IpAddr;

use hyper::Uri;

/// An `http` or `https` address, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) is_secure: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands in the `Host` header.
    pub(super) authority: String,
    path_and_query: String,
}

/// Why an address is not taken, as the end of a sentence that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not an absolute `http` or `https` URL.
    #[error("is not a URL that begins with https://")]
    NotAUrl,
    /// Has a user name or password in it.
    #[error("has a user name or password in it; use `feed_token`")]
    Userinfo,
    /// Plain http, to another machine.
    #[error(
        "is not https, so anyone on the way could replace the keys; \
         if the way is safe, say `dangerous_allow_http()`"
    )]
    NotSecure,
}

impl Address {
    pub(super) fn parse(url: &str, allow_http: bool) -> Result<Self, AddressError> {
        let uri: Uri = url.parse().map_err(|_| AddressError::NotAUrl)?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(AddressError::NotAUrl),
        };
        let authority = uri.authority().ok_or(AddressError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(AddressError::Userinfo);
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(AddressError::NotAUrl);
        }
        if !is_secure && !allow_http && !is_this_machine(&host) {
            return Err(AddressError::NotSecure);
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            // Something follows the host that is no port.
            None if authority.as_str() != authority.host() => return Err(AddressError::NotAUrl),
            None if is_secure => 443,
            None => 80,
        };
        Ok(Self {
            is_secure,
            host,
            port,
            authority: authority.as_str().to_owned(),
            path_and_query: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }

    /// The target of a request, with `wait` in its query.
    pub(super) fn target(&self, wait_seconds: Option<u64>) -> String {
        let path_and_query = &self.path_and_query;
        match wait_seconds {
            None => path_and_query.clone(),
            Some(seconds) if path_and_query.contains('?') => {
                format!("{path_and_query}&wait={seconds}")
            }
            Some(seconds) => format!("{path_and_query}?wait={seconds}"),
        }
    }
}

/// Whether a request to `host` stays on this machine, where nobody is on the way.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let address = Address::parse("https://auth.example.com/users/feed", false).unwrap();
        assert!(address.is_secure);
        assert_eq!(address.host, "auth.example.com");
        assert_eq!(address.port, 443);
        assert_eq!(address.authority, "auth.example.com");
        assert_eq!(address.target(None), "/users/feed");
        assert_eq!(address.target(Some(25)), "/users/feed?wait=25");

        let address = Address::parse("http://[::1]:8000?a=b", false).unwrap();
        assert!(!address.is_secure);
        assert_eq!(address.host, "::1");
        assert_eq!(address.port, 8000);
        assert_eq!(address.authority, "[::1]:8000");
        assert_eq!(address.target(None), "/?a=b");
        assert_eq!(address.target(Some(1)), "/?a=b&wait=1");
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_somebody_insists() {
        for here in ["http://localhost", "http://127.8.0.1", "http://[::1]/"] {
            assert!(Address::parse(here, false).is_ok(), "{here}");
        }
        for away in [
            "http://auth.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://0.0.0.0",
        ] {
            let refused = Address::parse(away, false);
            assert_eq!(refused, Err(AddressError::NotSecure), "{away}");
            assert!(Address::parse(away, true).is_ok(), "{away}");
        }
    }

    #[test]
    fn what_is_no_address_of_the_web_is_refused() {
        for wrong in [
            "",
            "/users",
            "auth.example.com",
            "auth.example.com:443",
            "ftp://auth.example.com",
            "https://",
            "https:///users",
            "https://auth.example.com:99999",
            "https://auth.example.com:",
            "https://auth example.com",
        ] {
            let refused = Address::parse(wrong, true);
            assert_eq!(refused, Err(AddressError::NotAUrl), "{wrong}");
        }
        let refused = Address::parse("https://ana:secret@auth.example.com", true);
        assert_eq!(refused, Err(AddressError::Userinfo));
    }
}
