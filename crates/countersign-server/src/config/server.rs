//! `[server]`: where the service listens and how the world reaches it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use countersign::Origin;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tls::TlsFiles;

use super::problems::Problems;
use crate::tls;

/// Where the service listens and how the world reaches it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSection {
    /// The address and port that the API listens on. Default: `127.0.0.1:8000`.
    listen: String,
    /// The origin under which browsers and resource servers reach the service: scheme, host and
    /// port, without a path. Default: `http://` and the address of `server.listen`, if that is a
    /// loopback address.
    public_url: Option<String>,
    /// The address and port that `/healthz`, `/readyz` and `/metrics` listen on, in plain http. Keep
    /// it out of the public's reach. Default: `127.0.0.1:8001`.
    operations_listen: String,
    /// Addresses or networks of the proxies in front, like `10.0.0.0/8`. Only their
    /// `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Default: none.
    trusted_proxies: Vec<String>,
    /// How many connections there may be at a time, from 16 on. When there are as many, those that ask for
    /// nothing are closed first, and only if all are busy is a new one closed at once. Default: as many as
    /// the limit of open files leaves room for, and 8192 at most.
    max_connections: Option<u32>,
    /// How many of them may come from one address, or with IPv6 from one network (/64); trusted proxies
    /// may have any number. Default: 256.
    max_connections_per_address: u32,
    tls: TlsSection,
}

/// TLS of the service's own. Either both files or neither; without, a trusted proxy ends TLS.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TlsSection {
    /// The file with the certificate and its chain, in PEM. Read again on SIGHUP. Default: none.
    cert: Option<PathBuf>,
    /// The file with the certificate's private key, in PEM. Read again on SIGHUP. Default: none.
    key: Option<PathBuf>,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".to_owned(),
            public_url: None,
            operations_listen: "127.0.0.1:8001".to_owned(),
            trusted_proxies: Vec::new(),
            max_connections: None,
            max_connections_per_address: 256,
            tls: TlsSection::default(),
        }
    }
}

/// Where the service listens and how the world reaches it, checked.
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: Origin,
    pub(crate) operations_listen: SocketAddr,
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// `None`: as many as the limit of open files leaves room for.
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_connections_per_address: usize,
    pub(crate) tls: Option<TlsFiles>,
    /// Plain http between this machine and itself.
    pub(crate) development: bool,
}

impl ServerSection {
    pub(crate) fn check(&self, problems: &mut Problems) -> ServerSettings {
        let parsed = parse_address(&self.listen);
        let listen_is_good = parsed.is_ok();
        let listen = problems.keep("server.listen", parsed, loopback(8000));
        let operations_listen = problems.keep(
            "server.operations_listen",
            parse_address(&self.operations_listen),
            loopback(8001),
        );
        if listen == operations_listen && listen.port() != 0 {
            let message = "this is server.listen's address too: give each its own port";
            problems.add("server.operations_listen", message);
        }
        let trusted_proxies = self.check_proxies(problems);
        let max_connections = self.max_connections.map(|most| {
            let key = "server.max_connections";
            check_most(key, most, LEAST_CONNECTIONS, problems)
        });
        let max_connections_per_address = check_most(
            "server.max_connections_per_address",
            self.max_connections_per_address,
            1,
            problems,
        );
        let tls = self.tls.check(problems);
        let public_url = self.check_public_url(listen, listen_is_good, problems);
        let development = public_url
            .as_ref()
            .is_some_and(|url| !url.is_https() && url.is_loopback() && listen.ip().is_loopback());
        let refusal = public_url.as_ref().and_then(|url| {
            let ends_somewhere = tls.is_some() || !self.trusted_proxies.is_empty();
            refuse_transport(url, listen, tls.is_some(), ends_somewhere)
        });
        if let Some(refusal) = refusal {
            problems.add("server.public_url", refusal);
        }
        ServerSettings {
            listen,
            public_url: public_url.unwrap_or_else(|| plain_origin(listen)),
            operations_listen,
            trusted_proxies,
            max_connections,
            max_connections_per_address,
            tls,
            development,
        }
    }

    /// None if it was refused already, or follows from a refused `listen`.
    fn check_public_url(
        &self,
        listen: SocketAddr,
        listen_is_good: bool,
        problems: &mut Problems,
    ) -> Option<Origin> {
        let refusal = match &self.public_url {
            Some(text) => match text.parse::<Origin>() {
                Ok(url) => return Some(url),
                Err(refusal) => format!("\"{text}\" {refusal}"),
            },
            None if !listen_is_good => return None,
            None if listen.ip().is_loopback() && listen.port() != 0 => {
                return Some(plain_origin(listen));
            }
            None => format!(
                "server.listen ({listen}) does not say under which origin browsers reach the \
                 service: set this, for instance to https://auth.example.org"
            ),
        };
        problems.add("server.public_url", refusal);
        None
    }

    fn check_proxies(&self, problems: &mut Problems) -> Vec<IpNet> {
        let mut proxies = Vec::new();
        for text in &self.trusted_proxies {
            match parse_network(text) {
                Ok(network) => proxies.push(network),
                Err(refusal) => {
                    problems.add("server.trusted_proxies", format!("\"{text}\": {refusal}"));
                }
            }
        }
        proxies
    }
}

/// With fewer connections a page and its favicon wait for each other.
const LEAST_CONNECTIONS: u32 = 16;
/// The most files that Linux lets a process have open unless it is told otherwise.
const MOST_CONNECTIONS: u32 = 1_048_576;

fn check_most(key: &str, most: u32, least: u32, problems: &mut Problems) -> usize {
    if !(least..=MOST_CONNECTIONS).contains(&most) {
        let message = format!("{most} is not between {least} and {MOST_CONNECTIONS}");
        problems.add(key, message);
    }
    usize::try_from(most).unwrap_or(usize::MAX)
}

impl TlsSection {
    fn check(&self, problems: &mut Problems) -> Option<TlsFiles> {
        let files = match (&self.cert, &self.key) {
            (None, None) => return None,
            (Some(cert), Some(key)) => TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
            },
            (Some(_), None) => {
                problems.add("server.tls.key", "server.tls.cert is set: set this as well");
                return None;
            }
            (None, Some(_)) => {
                problems.add("server.tls.cert", "server.tls.key is set: set this as well");
                return None;
            }
        };
        if let Err(refusal) = tls::load(&files) {
            problems.add(refusal.key, refusal.message);
        }
        Some(files)
    }
}

/// Passwords and tokens travel over https, or not at all; within one machine plain http will do.
fn refuse_transport(
    url: &Origin,
    listen: SocketAddr,
    has_tls: bool,
    ends_somewhere: bool,
) -> Option<String> {
    let host = url.host();
    let refusal = match (url.is_https(), url.is_loopback()) {
        (true, _) if ends_somewhere => return None,
        (true, _) => "nothing here speaks https: set server.tls.cert and server.tls.key, or \
                      server.trusted_proxies to the address of the proxy that ends TLS"
            .to_owned(),
        (false, _) if has_tls => {
            format!("server.tls is set and this is http: write https://{host}")
        }
        (false, true) if listen.ip().is_loopback() => return None,
        (false, true) => format!(
            "plain http is for development on this machine only, and server.listen ({listen}) is \
             open to others: listen on 127.0.0.1, or write an https:// origin here and set \
             server.tls.cert and server.tls.key, or server.trusted_proxies"
        ),
        (false, false) => format!(
            "passwords and tokens must not travel over plain http: write https://{host}, and set \
             server.tls.cert and server.tls.key, or server.trusted_proxies if a proxy in front \
             ends TLS"
        ),
    };
    Some(refusal)
}

/// The origin of what listens on this address in plain http.
fn plain_origin(listen: SocketAddr) -> Origin {
    let text = match listen.port() {
        80 => format!("http://{}", host_of(listen.ip())),
        _ => format!("http://{listen}"),
    };
    text.parse().expect("an address and a port are an origin")
}

fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write an IP address and a port, like 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000".to_owned()
    })
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse::<IpNet>())
        .map_err(|_| "write an IP address or a network, like 10.0.0.5 or 10.0.0.0/8".to_owned())?;
    if network.prefix_len() == 0 {
        let message = "this trusts everyone to say who they are: name the proxy's own network";
        return Err(message.to_owned());
    }
    Ok(network.trunc())
}
