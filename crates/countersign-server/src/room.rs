//! Room for connections: so many in all, and so many from one client address.
//!
//! A process can hold so many files open and no more, and a connection that asks for nothing costs as much
//! as one that does. So when there is no room, those that ask for nothing make some, the one that has done
//! so longest before the others; and only if all are busy is whoever comes turned away. An address has a
//! bound of its own, so that one client is not everybody. A trusted proxy is no client, and has none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_core::throttle::network;
use ipnet::IpNet;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::connection::{HEAD, IDLE};

/// How long those that make room may take over it.
pub(crate) const PARTING: Duration = Duration::from_millis(250);
/// How long a connection may go without a request that begins or ends: no answer takes longer.
const STUCK: Duration = Duration::from_secs(150);
/// What hyper itself cuts is not cut here, at the same moment and less politely.
const AFTER_HYPER: Duration = Duration::from_secs(5);
/// How often it is said that somebody was turned away.
const NOTICE_INTERVAL: Duration = Duration::from_mins(1);
/// Of all connections this part makes room at once when there is none, so that not every newcomer has to
/// look for some.
const PART: usize = 64;

/// How many connections there may be.
#[derive(Debug, Clone)]
pub(crate) struct RoomLimits {
    /// In all.
    pub(crate) most: usize,
    /// From one address; with IPv6 from one network (/64).
    pub(crate) most_per_address: usize,
    /// Whose connections are other people's.
    pub(crate) trusted_proxies: Vec<IpNet>,
}

/// The connections of one listener.
pub(crate) struct Room {
    limits: RoomLimits,
    places: Arc<Semaphore>,
    guests: Mutex<Guests>,
    refusals: Refusals,
    opened: Instant,
}

/// Those who are there, by their network.
type Guests = HashMap<[u8; 16], Vec<Arc<Guest>>>;

/// One connection, as the room sees it.
struct Guest {
    /// How many of its requests are being answered.
    asking: AtomicU32,
    has_asked: AtomicBool,
    /// When a request began or ended, or else when it came: milliseconds since `opened`.
    since: AtomicU64,
    opened: Instant,
    is_leaving: AtomicBool,
    leave: Notify,
}

impl Room {
    pub(crate) fn new(limits: RoomLimits) -> Arc<Self> {
        let most = limits.most.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            limits,
            places: Arc::new(Semaphore::new(most)),
            guests: Mutex::default(),
            refusals: Refusals::default(),
            opened: Instant::now(),
        })
    }

    /// A place for a connection from this address, if there is one or can be made soon.
    pub(crate) async fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        if !self.admits(peer) {
            self.refuse("server.max_connections_per_address", peer);
            return None;
        }
        let Some(permit) = self.find_place().await else {
            self.refuse("server.max_connections", peer);
            return None;
        };
        let guest = Arc::new(Guest::new(self.opened));
        let network = network(Some(peer));
        let mut guests = self.guests();
        guests.entry(network).or_default().push(Arc::clone(&guest));
        drop(guests);
        Some(Place {
            room: Arc::clone(self),
            network,
            guest,
            _permit: permit,
        })
    }

    /// Whether one more may come from there, if need be in the place of one that is idle.
    fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let proxies = &self.limits.trusted_proxies;
        if proxies.iter().any(|network| network.contains(&peer)) {
            return true;
        }
        let guests = self.guests();
        let own = guests.get(&network(Some(peer))).map_or(&[][..], |own| own);
        let staying = own.iter().filter(|guest| !guest.is_leaving()).count();
        staying < self.limits.most_per_address || make_room(own.iter(), 1) > 0
    }

    async fn find_place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(permit);
        }
        let part = self.limits.most / PART + 1;
        if make_room(self.guests().values().flatten(), part) == 0 {
            return None;
        }
        let permit = Arc::clone(&self.places).acquire_owned();
        timeout(2 * PARTING, permit).await.ok()?.ok()
    }

    fn refuse(&self, limit: &'static str, peer: IpAddr) {
        if let Some(refused) = self.refusals.count(self.opened.elapsed()) {
            tracing::warn!(
                event = "connections_refused",
                limit,
                last = %peer,
                refused,
                "there are as many connections as there may be, and all are busy"
            );
        }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks up to so many idle ones to leave, those first that have been idle longest; how many it asked.
fn make_room<'a>(guests: impl Iterator<Item = &'a Arc<Guest>>, places: usize) -> usize {
    let mut idle: Vec<_> = guests.filter(|guest| guest.is_idle()).collect();
    idle.sort_unstable_by_key(|guest| guest.since.load(Ordering::Relaxed));
    idle.truncate(places);
    for guest in &idle {
        guest.is_leaving.store(true, Ordering::Relaxed);
        guest.leave.notify_one();
    }
    idle.len()
}

impl Guest {
    fn new(opened: Instant) -> Self {
        let guest = Self {
            asking: AtomicU32::new(0),
            has_asked: AtomicBool::new(false),
            since: AtomicU64::new(0),
            opened,
            is_leaving: AtomicBool::new(false),
            leave: Notify::new(),
        };
        guest.touch();
        guest
    }

    fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(now, Ordering::Relaxed);
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.asking.load(Ordering::Relaxed) == 0 && !self.is_leaving()
    }

    /// How much longer it is waited for.
    fn patience(&self) -> Duration {
        let is_asking = self.asking.load(Ordering::Relaxed) > 0;
        let patience = match (is_asking, self.has_asked.load(Ordering::Relaxed)) {
            (true, _) => STUCK,
            (false, true) => IDLE + AFTER_HYPER,
            (false, false) => HEAD + AFTER_HYPER,
        };
        let since = Duration::from_millis(self.since.load(Ordering::Relaxed));
        (since + patience).saturating_sub(self.opened.elapsed())
    }
}

/// A connection's place; dropped, it is free again.
pub(crate) struct Place {
    room: Arc<Room>,
    network: [u8; 16],
    guest: Arc<Guest>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until the connection should go: it makes room for another, or has been idle for too long, or
    /// is stuck.
    pub(crate) async fn over(&self) {
        let out_of_patience = async {
            loop {
                let patience = self.guest.patience();
                if patience.is_zero() {
                    break;
                }
                sleep(patience).await;
            }
        };
        tokio::select! {
            () = self.guest.leave.notified() => {}
            () = out_of_patience => {}
        }
        self.guest.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether nothing has been asked yet, so that nobody waits for anything.
    pub(crate) fn is_unused(&self) -> bool {
        !self.guest.has_asked.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered, and not for ever.
    pub(crate) fn is_at_work(&self) -> bool {
        self.guest.asking.load(Ordering::Relaxed) > 0 && !self.guest.patience().is_zero()
    }

    /// The connection can be spoken on from now on.
    pub(crate) fn ready(&self) {
        self.guest.touch();
    }

    /// What notes the requests on this connection.
    pub(crate) fn desk(&self) -> Desk {
        Desk(Arc::clone(&self.guest))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.room.guests();
        if let Some(own) = guests.get_mut(&self.network) {
            own.retain(|guest| !Arc::ptr_eq(guest, &self.guest));
            if own.is_empty() {
                guests.remove(&self.network);
            }
        }
    }
}

/// Notes the requests of one connection.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Guest>);

impl Desk {
    /// A request has come; it has been answered when this is dropped.
    pub(crate) fn ask(&self) -> Asking {
        let guest = Arc::clone(&self.0);
        guest.asking.fetch_add(1, Ordering::Relaxed);
        guest.has_asked.store(true, Ordering::Relaxed);
        guest.touch();
        Asking(guest)
    }
}

/// A request that is being answered.
pub(crate) struct Asking(Arc<Guest>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.touch();
        self.0.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those who were turned away and of whom nothing has been said yet.
#[derive(Debug, Default)]
struct Refusals(Mutex<(u64, Option<Duration>)>);

impl Refusals {
    /// Counts one more; gives the number when it is to be said.
    fn count(&self, now: Duration) -> Option<u64> {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (refused, said_at) = &mut *refusals;
        *refused += 1;
        let is_quiet = said_at.is_some_and(|said_at| now < said_at + NOTICE_INTERVAL);
        if is_quiet {
            return None;
        }
        *said_at = Some(now);
        Some(std::mem::take(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(most: usize, most_per_address: usize) -> Arc<Room> {
        Room::new(RoomLimits {
            most,
            most_per_address,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Lets places go when they are asked to, as connections do.
    fn obliging(place: Place) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { place.over().await })
    }

    #[tokio::test]
    async fn whoever_has_been_idle_longest_makes_room() {
        let room = room(3, 3);
        let mut places = Vec::new();
        for _ in 0..3 {
            let place = room.enter(ip("1.2.3.4")).await.unwrap();
            sleep(Duration::from_millis(5)).await;
            places.push(place);
        }
        let busy = places[0].desk().ask();
        let guests: Vec<_> = places
            .iter()
            .map(|place| Arc::clone(&place.guest))
            .collect();
        let leaving = || {
            guests
                .iter()
                .map(|guest| guest.is_leaving())
                .collect::<Vec<_>>()
        };
        let tasks: Vec<_> = places.into_iter().map(obliging).collect();
        let _fourth = room.enter(ip("2.2.2.2")).await.unwrap();
        assert_eq!(leaving(), [false, true, false]);
        let _fifth = room.enter(ip("2.2.2.2")).await.unwrap();
        assert_eq!(leaving(), [false, true, true]);
        drop(busy);
        for task in tasks {
            task.abort();
        }
    }

    #[tokio::test]
    async fn nobody_comes_in_when_all_are_busy_and_the_next_one_does_afterwards() {
        let room = room(2, 2);
        let first = room.enter(ip("1.2.3.4")).await.unwrap();
        let second = room.enter(ip("1.2.3.5")).await.unwrap();
        let _busy = [first.desk().ask(), second.desk().ask()];
        assert!(room.enter(ip("1.2.3.6")).await.is_none());
        drop(first);
        assert!(room.enter(ip("1.2.3.6")).await.is_some());
    }

    #[tokio::test]
    async fn an_address_has_its_own_bound_and_makes_room_among_its_own() {
        let room = room(10, 2);
        let stranger = room.enter(ip("1.2.3.4")).await.unwrap();
        let own = [
            room.enter(ip("2001:db8::1")).await.unwrap(),
            room.enter(ip("2001:db8::2")).await.unwrap(),
        ];
        // In the place of the first one.
        let third = room.enter(ip("2001:db8::3")).await.unwrap();
        assert!(own[0].guest.is_leaving() && !own[1].guest.is_leaving());
        assert!(!stranger.guest.is_leaving());
        let _busy = [own[1].desk().ask(), third.desk().ask()];
        assert!(room.enter(ip("2001:db8::4")).await.is_none());
        assert!(room.enter(ip("2001:db8:0:1::1")).await.is_some());
    }

    #[tokio::test]
    async fn a_trusted_proxy_is_no_client() {
        let room = room(10, 1);
        let mut places = Vec::new();
        for address in ["10.1.2.3", "10.1.2.3", "::ffff:10.1.2.3"] {
            let place = room.enter(ip(address)).await.unwrap();
            places.push((place.desk().ask(), place));
        }
    }

    #[tokio::test]
    async fn a_place_that_was_left_is_nobodys() {
        let room = room(1, 1);
        for _ in 0..100 {
            drop(room.enter(ip("1.2.3.4")).await.unwrap());
        }
        assert!(room.guests().is_empty());
    }

    #[test]
    fn patience_is_short_before_the_first_request_and_longer_between_two() {
        let guest = Arc::new(Guest::new(Instant::now()));
        let has_for = |expected: Duration| {
            let patience = guest.patience();
            assert!(
                expected.abs_diff(patience) < Duration::from_secs(4),
                "{patience:?}"
            );
        };
        has_for(HEAD + AFTER_HYPER);
        let asking = Desk(Arc::clone(&guest)).ask();
        has_for(STUCK);
        drop(asking);
        has_for(IDLE + AFTER_HYPER);
    }

    #[test]
    fn refusals_are_counted_and_said_now_and_then() {
        let refusals = Refusals::default();
        let at = Duration::from_secs;
        assert_eq!(refusals.count(at(10)), Some(1));
        assert_eq!(refusals.count(at(11)), None);
        assert_eq!(refusals.count(at(69)), None);
        assert_eq!(refusals.count(at(70)), Some(3));
    }
}
