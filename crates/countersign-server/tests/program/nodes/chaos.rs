//! A minute in which nodes are killed and PostgreSQL goes down, under everybody's feet.
//!
//! Those who stay refresh all the time, through the balancer, each time on whichever node. Whenever there
//! is no answer, or one that says to come again, they show the token that they hold once more. Those who
//! leave sign in, refresh a little and end their session, and try ever after whether it really has ended,
//! on each node. What must hold is asserted where it is seen; how much has happened is counted, or it
//! would prove nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::balancer::{BEHIND, Balancer, Browser, Kind};
use super::server::Server;
use super::{Node, UNHEARD, ask, generation, nodes};
use crate::chance::Chance;
use crate::harness::{Line, REFRESH, Reply, SignedIn, eventually, try_get};

const STAYING: usize = 32;
const LEAVING: usize = 6;

/// How long it goes on.
const LONG: Duration = Duration::from_mins(1);

/// The longest that nothing is taken away.
const LONGEST_CALM: u64 = 1_200_000;

/// The longest that something is away, on top of the time that it takes to start.
const LONGEST_OUTAGE: u64 = 600_000;

/// How long somebody waits before they try again, and between two refreshes: at most, in microseconds.
const PAUSE: u64 = 60_000;

/// What has been seen to happen.
#[derive(Debug, Default)]
struct Tally {
    kills: AtomicU32,
    database_stops: AtomicU32,
    database_crashes: AtomicU32,
    rotations: AtomicU32,
    /// Refreshes that were asked again with the same token, without need, and answered alike.
    repeated: AtomicU32,
    /// No answer at all, or none in time.
    lost: AtomicU32,
    /// Answers that say to come again: 502, 503 and 504.
    come_again: AtomicU32,
    /// Rotations that had to be asked for more than once.
    asked_again: AtomicU32,
    ends: AtomicU32,
    ends_asked_twice: AtomicU32,
    /// Times that somebody tried a session that had ended.
    refused: AtomicU32,
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn counted(counter: &AtomicU32) -> u32 {
    counter.load(Ordering::Relaxed)
}

/// What everybody shares.
struct Scene<'s> {
    balancer: &'s Balancer,
    ports: [u16; 3],
    tally: &'s Tally,
    is_over: &'s AtomicBool,
    /// What was held of sessions whose end was answered then.
    over: &'s Mutex<Vec<(SignedIn, Instant)>>,
}

/// The generation that a refresh token names.
fn generation_of(cookie: &str) -> u32 {
    let claims = cookie.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["gen"].as_u64().unwrap().try_into().unwrap()
}

/// Somebody with a browser.
struct Actor<'s> {
    scene: &'s Scene<'s>,
    browser: Browser<'s>,
    chance: Chance,
}

impl<'s> Actor<'s> {
    fn new(scene: &'s Scene<'s>, chance: Chance) -> Self {
        Self {
            scene,
            browser: Browser::of(scene.balancer),
            chance,
        }
    }

    fn goes_on(&self) -> bool {
        !self.scene.is_over.load(Ordering::Relaxed)
    }

    /// Asks until there is an answer that is one. Gives how often it had to be asked again.
    fn insist(
        &mut self,
        mut ask: impl FnMut(&mut Browser<'s>) -> std::io::Result<Reply>,
    ) -> (Reply, u32) {
        let tally = self.scene.tally;
        let mut again = 0;
        loop {
            match ask(&mut self.browser) {
                Ok(reply) if matches!(reply.status, 502..=504) => {
                    assert_eq!(reply.header("set-cookie"), None, "{reply:?}");
                    count(&tally.come_again);
                }
                Ok(reply) => return (reply, again),
                Err(_) => count(&tally.lost),
            }
            again += 1;
            self.chance.wait_at_most(PAUSE);
        }
    }

    fn sign_in(&mut self) -> SignedIn {
        let (reply, _) = self.insist(|browser| browser.login(""));
        SignedIn::from_reply(&reply)
    }

    /// The next generation, which is one further and no more.
    fn refresh(&mut self, me: &SignedIn) -> SignedIn {
        let (reply, again) = self.insist(|browser| browser.refresh(me));
        assert_eq!(
            reply.status, 200,
            "signed out, after {again} tries: {reply:?}"
        );
        let next = SignedIn::from_reply(&reply);
        assert_eq!(next.session, me.session);
        let (held, given) = (generation_of(&me.cookie), generation_of(&next.cookie));
        assert_eq!(given, held + 1, "one generation follows another");
        let tally = self.scene.tally;
        count(&tally.rotations);
        if again > 0 {
            count(&tally.asked_again);
        }
        next
    }

    /// Refreshes until it is over. Gives what it holds then.
    fn stay(&mut self) -> SignedIn {
        let mut me = self.sign_in();
        while self.goes_on() {
            let next = self.refresh(&me);
            // As a second tab does, which was a little late.
            if self.chance.below(4) == 0 {
                let (reply, _) = self.insist(|browser| browser.refresh(&me));
                let same = SignedIn::from_reply(&reply);
                assert_eq!(same.cookie, next.cookie, "two successors of one generation");
                count(&self.scene.tally.repeated);
            }
            me = next;
            if self.chance.below(4) == 0 {
                let (reply, _) = self.insist(|browser| browser.user(&me));
                assert_eq!(reply.status, 200, "{reply:?}");
            }
            self.chance.wait_at_most(PAUSE);
        }
        me
    }

    /// Signs in and ends the session, time and again, and looks whether what has ended stays so.
    fn leave(&mut self) {
        while self.goes_on() {
            let mut me = self.sign_in();
            for _ in 0..self.chance.below(4) {
                me = self.refresh(&me);
            }
            let (reply, again) = self.insist(|browser| browser.logout(&me));
            assert_eq!(reply.status, 204, "{reply:?}");
            let tally = self.scene.tally;
            count(&tally.ends);
            if again > 0 {
                count(&tally.ends_asked_twice);
            }
            let ended = (me, Instant::now());
            self.try_again(&ended);
            self.scene.over.lock().unwrap().push(ended);
            for _ in 0..6 {
                let over = self.scene.over.lock().unwrap();
                let any = self.chance.below(over.len().try_into().unwrap());
                let (who, since) = &over[usize::try_from(any).unwrap()];
                let ended = (who.clone(), *since);
                drop(over);
                self.try_again(&ended);
            }
        }
    }

    /// Tries a session that has ended, on one of the nodes. Whoever answers refuses it.
    fn try_again(&mut self, (who, ended): &(SignedIn, Instant)) {
        let port = self.scene.ports[usize::try_from(self.chance.below(3)).unwrap()];
        let asked = Instant::now();
        let replies = [
            directly(port, REFRESH, &who.cookies()),
            directly(port, "GET /users/user", &who.bearer()),
        ];
        for (reply, is_access) in replies.into_iter().zip([false, true]) {
            let Some(reply) = reply.filter(|reply| reply.status != 503) else {
                continue;
            };
            if is_access && asked - *ended < UNHEARD && reply.status == 200 {
                continue;
            }
            let problem = reply.refused(401, "session_ended");
            assert_eq!(problem["end_reason"], "logout", "{reply:?}");
            count(&self.scene.tally.refused);
        }
    }
}

/// Asks a node as the balancer would, which is the only one whom it believes that this came by TLS. `None`:
/// it is not there.
fn directly(port: u16, start: &str, headers: &str) -> Option<Reply> {
    let headers = format!("X-Forwarded-Proto: https\r\n{headers}");
    Line::connect(port).ok()?.ask(start, &headers, "").ok()
}

/// Takes nodes and the database away, one after the other, and puts them back.
fn disturb(server: &mut Server, nodes: &mut [Node; 3], chance: &mut Chance, tally: &Tally) {
    let until = Instant::now() + LONG;
    for turn in 0_u32.. {
        if Instant::now() > until {
            return;
        }
        chance.wait_at_most(LONGEST_CALM);
        if turn % 4 == 3 {
            if turn % 8 == 3 {
                server.stop();
                count(&tally.database_stops);
            } else {
                server.stop_at_once();
                count(&tally.database_crashes);
            }
            chance.wait_at_most(LONGEST_OUTAGE);
            server.start();
            continue;
        }
        // Now and then two of them.
        let first = usize::try_from(chance.below(3)).unwrap();
        let killed = 1 + usize::from(chance.below(4) == 0);
        let killed = [first, (first + 1) % 3].into_iter().take(killed);
        for node in killed.clone() {
            let said = nodes[node].kill();
            assert!(!said.contains("panicked"), "{said}");
            count(&tally.kills);
        }
        chance.wait_at_most(LONGEST_OUTAGE);
        for node in killed {
            nodes[node].start();
        }
    }
}

/// Ends what it was made for, also when somebody has panicked: the others need not go on.
struct Ending<'s>(&'s AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs and HAProxy, and more than a minute"]
fn nobody_is_signed_out_and_no_end_undone_while_nodes_and_the_database_fall_over() {
    let mut chance = Chance::of(Chance::seed());
    let mut server = Server::new();
    let mut nodes = nodes(&server, BEHIND);
    let balancer = Balancer::before(Kind::HaProxy, &nodes);
    let (tally, is_over, over) = (Tally::default(), AtomicBool::new(false), Mutex::default());
    let scene = Scene {
        balancer: &balancer,
        ports: [0, 1, 2].map(|node: usize| nodes[node].port()),
        tally: &tally,
        is_over: &is_over,
        over: &over,
    };
    let stayed = thread::scope(|scope| {
        let _ending = Ending(&is_over);
        let staying = [(); STAYING].map(|()| {
            let mut actor = Actor::new(&scene, chance.another());
            scope.spawn(move || actor.stay())
        });
        let leaving = [(); LEAVING].map(|()| {
            let mut actor = Actor::new(&scene, chance.another());
            scope.spawn(move || actor.leave())
        });
        disturb(&mut server, &mut nodes, &mut chance, &tally);
        is_over.store(true, Ordering::Relaxed);
        let _they_have_gone = leaving.map(|leaving| leaving.join().unwrap());
        staying.map(|staying| staying.join().unwrap())
    });

    for node in &nodes {
        eventually("it has the database back", || {
            try_get(node.place.operations_port, "/readyz")
                .unwrap()
                .status
                == 200
        });
    }
    for me in &stayed {
        // As many rotations as successors were given: none was committed twice.
        let given = generation_of(&me.cookie);
        assert_eq!(generation(&server, &me.session), given);
        for port in scene.ports {
            let reply = directly(port, "GET /users/user", &me.bearer()).unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }
    thread::sleep(UNHEARD);
    for (who, _) in over.lock().unwrap().iter() {
        for port in scene.ports {
            for (start, headers) in [(REFRESH, who.cookies()), ("GET /users/user", who.bearer())] {
                let reply = directly(port, start, &headers).unwrap();
                reply.refused(401, "session_ended");
            }
        }
    }
    let reused = "SELECT count(*) FROM countersign_session WHERE end_reason = 'reuse_detected'";
    assert_eq!(ask(&server, reused), "0", "nobody was taken for a thief");

    println!("{tally:#?}");
    for (counter, least) in [
        (&tally.kills, 12),
        (&tally.database_stops, 2),
        (&tally.database_crashes, 2),
        (&tally.rotations, 2_000),
        (&tally.repeated, 200),
        (&tally.asked_again, 50),
        (&tally.ends, 100),
        (&tally.refused, 500),
    ] {
        assert!(
            counted(counter) >= least,
            "too little has happened: {tally:?}"
        );
    }
}
