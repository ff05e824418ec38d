//! Refusals that cost a stranger nothing, counted in memory and kept as a few entries a minute.
//!
//! Eighteen thousand of them can come in a second. An entry of each would be a write of each, and a disk that
//! a stranger fills.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::{AuditEntry, Caller, Event};
use crate::throttle::keys::network;
use crate::user::UserId;

/// The most kinds that are told apart between two times that they are kept: about 100 KiB, and a million and a
/// half entries in a day at worst.
const MOST: usize = 1_024;

/// What has been refused since it was kept last.
pub(crate) struct Tally(Mutex<HashMap<Kind, Tallied>>);

/// Those that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    event: &'static str,
    reason: &'static str,
    user: Option<UserId>,
    network: [u8; 16],
}

#[derive(Debug, Clone)]
struct Tallied {
    first: AuditEntry,
    times: u32,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Counts a refusal. When many kinds are counted already, a new one is counted without saying whom it
    /// concerned and where it came from.
    pub(crate) fn add(&self, event: &Event<'_>, address: Option<IpAddr>, now: Timestamp) {
        let exact = Kind {
            event: event.name(),
            reason: event.kind(),
            user: event.user(),
            network: network(address),
        };
        let mut tallied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if tallied.len() < MOST || tallied.contains_key(&exact) {
            exact
        } else {
            Kind {
                user: None,
                network: network(None),
                ..exact
            }
        };
        let counted = tallied.entry(kind).or_insert_with(|| Tallied {
            first: AuditEntry {
                at: now,
                event: event.name().to_owned(),
                user: kind.user,
                session: None,
                by: None,
                caller: Caller {
                    address: address_of(kind.network),
                    ..Caller::default()
                },
                details: event.details(),
                count: 0,
            },
            times: 0,
        });
        counted.times = counted.times.saturating_add(1);
    }

    /// Takes out what was counted, as entries.
    pub(crate) fn take(&self) -> Vec<AuditEntry> {
        let mut tallied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *tallied);
        drop(tallied);
        let mut entries: Vec<_> = taken
            .into_values()
            .map(|Tallied { first, times }| AuditEntry {
                count: times,
                ..first
            })
            .collect();
        entries.sort_by_key(|entry| entry.at);
        entries
    }
}

/// The address that stands for a network.
fn address_of(network: [u8; 16]) -> Option<IpAddr> {
    let address = Ipv6Addr::from(network);
    (!address.is_unspecified()).then(|| IpAddr::V6(address).to_canonical())
}

impl fmt::Debug for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tally")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const REFUSED: Event<'_> = Event::AccessTokenRefused { reason: "expired" };

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_alike_is_one_entry_that_says_how_often() {
        let tally = Tally::new();
        for _ in 0..3 {
            tally.add(&REFUSED, Some(ip("192.0.2.1")), now());
            tally.add(&REFUSED, Some(ip("2001:db8::1")), now());
            tally.add(&REFUSED, Some(ip("2001:db8::ffff:2")), now());
        }
        let throttled = Event::Throttled {
            limit: "csrf",
            user: Some(UserId(7)),
        };
        tally.add(&throttled, None, now());
        let mut told: Vec<_> = tally
            .take()
            .into_iter()
            .map(|entry| {
                let address = entry.caller.address.map(|address| address.to_string());
                let details = serde_json::to_string(&entry.details).unwrap();
                (entry.event, address, entry.user, details, entry.count)
            })
            .collect();
        told.sort();
        let refused = |address: &str, count| {
            let (event, address) = ("access_token_refused".to_owned(), Some(address.to_owned()));
            (
                event,
                address,
                None,
                r#"{"reason":"expired"}"#.to_owned(),
                count,
            )
        };
        let limited = r#"{"limit":"csrf"}"#.to_owned();
        assert_eq!(
            told,
            [
                refused("192.0.2.1", 3),
                refused("2001:db8::", 6),
                ("throttled".to_owned(), None, Some(UserId(7)), limited, 1),
            ]
        );
        assert_eq!(tally.take(), []);
    }

    #[test]
    fn a_full_tally_forgets_where_the_rest_came_from_and_counts_it() {
        let tally = Tally::new();
        for number in 0..5_000 {
            let address = Ipv4Addr::from_bits(0x0A00_0000 + number);
            tally.add(&REFUSED, Some(address.into()), now());
        }
        let entries = tally.take();
        assert_eq!(entries.len(), MOST + 1);
        let counted: u32 = entries.iter().map(|entry| entry.count).sum();
        assert_eq!(counted, 5_000);
        let nowhere = entries
            .iter()
            .filter(|entry| entry.caller.address.is_none());
        assert_eq!(nowhere.count(), 1);
    }
}
