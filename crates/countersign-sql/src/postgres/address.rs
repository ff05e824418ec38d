//! Where the database is, and how the way there is kept private.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Why a URL names no database. None of the messages quotes it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It cannot be read.
    #[error(
        "write postgres://user:password@host:5432/database, with reserved characters in the \
         password percent-encoded (%40 for @)"
    )]
    Malformed,
    /// The host or the database is not named.
    #[error("name the host and the database, like postgres://user@host/database")]
    Incomplete,
    /// `sslmode` is none that we know.
    #[error("sslmode is disable, prefer, require or verify-full")]
    UnknownSslMode,
    /// Passwords and users would cross a network in the open, or may.
    #[error(
        "the database is on another machine, and with this sslmode others could read along: leave \
         sslmode out, or use verify-full"
    )]
    Plain,
    /// A root certificate that would not be looked at.
    #[error("sslrootcert is looked at with sslmode=verify-full only")]
    UnusedRootCertificate,
}

/// How the connection is kept private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Privacy {
    /// Not at all.
    Plain,
    /// By TLS if the server offers it, whoever that is.
    Preferred,
    /// By TLS, whoever the server is.
    Encrypted,
    /// By TLS with a server that proves its name: by a certificate of this file, or of one of the
    /// system's authorities.
    Verified(Option<PathBuf>),
}

/// Where the database is. Its `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) privacy: Privacy,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, AddressError> {
        let (url, own) = take_own_parameters(url)?;
        let mut config: Config = url.parse().map_err(|_| AddressError::Malformed)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty()
            || config.get_dbname().is_none_or(str::is_empty)
        {
            return Err(AddressError::Incomplete);
        }
        let is_local = is_local(&config);
        let privacy = match own.mode.as_deref() {
            // Nothing of it leaves the machine.
            None if is_local && own.root_certificate.is_none() => Privacy::Plain,
            Some("disable") => Privacy::Plain,
            Some("prefer") => Privacy::Preferred,
            Some("require") => Privacy::Encrypted,
            None | Some("verify-full") => Privacy::Verified(own.root_certificate.clone()),
            Some(_) => return Err(AddressError::UnknownSslMode),
        };
        if !is_local && matches!(privacy, Privacy::Plain | Privacy::Preferred) {
            return Err(AddressError::Plain);
        }
        if own.root_certificate.is_some() && !matches!(privacy, Privacy::Verified(_)) {
            return Err(AddressError::UnusedRootCertificate);
        }
        config.ssl_mode(match privacy {
            Privacy::Plain => SslMode::Disable,
            Privacy::Preferred => SslMode::Prefer,
            Privacy::Encrypted | Privacy::Verified(_) => SslMode::Require,
        });
        Ok(Self { config, privacy })
    }
}

/// The parameters that tokio-postgres does not know, or reads otherwise.
#[derive(Default)]
struct OwnParameters {
    mode: Option<String>,
    root_certificate: Option<PathBuf>,
}

fn take_own_parameters(url: &str) -> Result<(Cow<'_, str>, OwnParameters), AddressError> {
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(AddressError::Malformed);
    }
    let mut own = OwnParameters::default();
    let Some((before, query)) = url.split_once('?') else {
        return Ok((url.into(), own));
    };
    let mut others = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or(AddressError::Malformed)?;
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| AddressError::Malformed)?;
        match name {
            "sslmode" => own.mode = Some(value.into_owned()),
            "sslrootcert" => own.root_certificate = Some(PathBuf::from(value.into_owned())),
            // It has its place before the host, where those who hide it look.
            "password" => return Err(AddressError::Malformed),
            _ => others.push(pair),
        }
    }
    let url = match others.as_slice() {
        [] => before.into(),
        others => format!("{before}?{}", others.join("&")).into(),
    };
    Ok((url, own))
}

/// Whether every host there is stands on this machine.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("postgres://")?;
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            match host {
                Host::Tcp(name) => formatter.write_str(name)?,
                Host::Unix(path) => write!(formatter, "{}", path.display())?,
            }
            let ports = self.config.get_ports();
            if let Some(port) = ports.get(index).or_else(|| ports.first()) {
                write!(formatter, ":{port}")?;
            }
        }
        write!(
            formatter,
            "/{}",
            self.config.get_dbname().unwrap_or_default()
        )
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self} ({:?})", self.privacy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privacy(url: &str) -> Result<Privacy, AddressError> {
        url.parse().map(|address: Address| address.privacy)
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_and_the_server_proves_its_name() {
        let verified = || Ok(Privacy::Verified(None));
        for (url, expected) in [
            ("postgres://u:p@db.example.org/d", verified()),
            ("postgres://u:p@10.0.0.7:5433/d", verified()),
            ("postgres://u@localhost,db.example.org/d", verified()),
            ("postgres://u@db/d?sslmode=require", Ok(Privacy::Encrypted)),
            (
                "postgresql://u@db/d?sslrootcert=%2Fetc%2Fca.pem&connect_timeout=3",
                Ok(Privacy::Verified(Some("/etc/ca.pem".into()))),
            ),
            ("postgres://u@localhost/d", Ok(Privacy::Plain)),
            ("postgres://u@127.0.0.1:5433/d", Ok(Privacy::Plain)),
            ("postgres://u@%2Frun%2Fpostgresql/d", Ok(Privacy::Plain)),
            (
                "postgres://u@[::1]/d?sslmode=prefer",
                Ok(Privacy::Preferred),
            ),
            ("postgres://u@localhost/d?sslmode=verify-full", verified()),
            (
                "postgres://u@db/d?sslmode=disable",
                Err(AddressError::Plain),
            ),
            ("postgres://u@db/d?sslmode=prefer", Err(AddressError::Plain)),
            (
                "postgres://u@localhost/d?hostaddr=10.0.0.7&sslmode=disable",
                Err(AddressError::Plain),
            ),
            (
                "postgres://u@db/d?sslmode=verify-ca",
                Err(AddressError::UnknownSslMode),
            ),
            (
                "postgres://u@db/d?sslmode=require&sslrootcert=ca.pem",
                Err(AddressError::UnusedRootCertificate),
            ),
        ] {
            assert_eq!(privacy(url), expected, "{url}");
        }
    }

    #[test]
    fn no_message_and_no_form_of_it_shows_the_password() {
        for url in [
            "postgres://ana:s3cret@db.example.org/d",
            "postgres://ana:s3cret@db.example.org:x/d",
            "postgres://ana:s3cret@db.example.org",
            "postgres://ana:s3?s3cret@db.example.org/d",
            "postgres://db/d?password=s3cret&s3cret=1",
            "mysql://ana:s3cret@db/d",
        ] {
            let shown = match url.parse::<Address>() {
                Ok(address) => format!("{address} {address:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("s3cret"), "{url}: {shown}");
        }
        let address: Address = "postgres://ana:p@db.example.org:5433/d".parse().unwrap();
        assert_eq!(address.to_string(), "postgres://db.example.org:5433/d");
    }

    #[test]
    fn a_url_names_a_host_and_a_database() {
        for url in [
            "postgres://",
            "postgres:///d",
            "postgres://db",
            "postgres://db/",
        ] {
            assert_eq!(privacy(url), Err(AddressError::Incomplete), "{url}");
        }
    }
}
