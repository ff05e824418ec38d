//! Sockets on which this machine's browsers find `localhost`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// How many ports are tried, from the one that was hoped for.
const TRIES: u16 = 50;

/// A port, and how much somebody cares.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    /// This one or none.
    Exactly(u16),
    /// This one, or the next that is free.
    From(u16),
}

/// The sockets of one port: a browser that is sent to `localhost` may take either address, and must not
/// meet another program at the second.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) port: u16,
    pub(crate) sockets: Vec<TcpListener>,
}

impl Doors {
    /// Opens the port that is wished for.
    ///
    /// # Errors
    /// As binding fails; [`io::ErrorKind::AddrInUse`] if somebody has the port on either address.
    pub(crate) async fn open(wish: Wish) -> io::Result<Self> {
        let (first, last) = match wish {
            Wish::Exactly(port) => (port, port),
            Wish::From(port) => (port, port.saturating_add(TRIES)),
        };
        let mut refusal = io::Error::from(io::ErrorKind::AddrInUse);
        for port in first..=last {
            match Self::open_port(port).await {
                Ok(doors) => return Ok(doors),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refusal = error,
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }

    async fn open_port(port: u16) -> io::Result<Self> {
        let first = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        // Port 0 is whichever is free.
        let port = first.local_addr()?.port();
        let mut sockets = vec![first];
        match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
            Ok(second) => sockets.push(second),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // There is no IPv6 here, so nobody is to be met there.
            Err(_) => {}
        }
        Ok(Self { port, sockets })
    }

    /// The origin by which browsers call it.
    pub(crate) fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over_or_refused() {
        let taken = Doors::open(Wish::Exactly(0)).await.unwrap();
        let refusal = Doors::open(Wish::Exactly(taken.port)).await.unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::AddrInUse);
        let next = Doors::open(Wish::From(taken.port)).await.unwrap();
        assert!(next.port > taken.port, "{next:?}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_on_one_address_is_taken() {
        let Ok(other) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
            return; // no IPv6 here
        };
        let port = other.local_addr().unwrap().port();
        let refusal = Doors::open(Wish::Exactly(port)).await.unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::AddrInUse);
    }
}
