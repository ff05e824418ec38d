//! `kill -9` at any instant: what was answered holds, what was not may be asked again, and nobody is
//! taken for a thief.
//!
//! A browser waits for the answer to one refresh before it sends the next
//! ([docs/security/rotation.md]); so do the clients here. Each keeps in mind what it was answered, and
//! after each crash the service must agree.
//!
//! [docs/security/rotation.md]: ../../../../docs/security/rotation.md

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::chance::Chance;
use crate::harness::{
    JSON, LOGOUT, Line, PASSWORD, Place, REFRESH, Reply, SignedIn, login_body, send, try_get,
};

/// Passwords as cheap as they may be, tokens that outlive the test, room for a slow machine; and sign-ins
/// that are not counted, for one whose answer a kill takes away stays counted.
const SETTINGS: &str = "password.argon2.memory = \"7MiB\"\n\
                        password.argon2.passes = 5\n\
                        throttle.insecure_off = true\n\
                        tokens.access_lifetime = \"1h\"\n\
                        sessions.grace = \"5m\"\n\
                        log.level = \"error\"";

/// How many clients keep each service busy.
const CLIENTS: usize = 4;

/// The longest that a service is under load before it is killed, in microseconds.
const LONGEST_LOAD: u64 = 40_000;

/// The longest that a start goes on before it is killed, in microseconds.
const LONGEST_START: u64 = 80_000;

/// What all clients of a service know.
struct Board {
    /// Whose session is which.
    sessions: Mutex<[Option<String>; CLIENTS]>,
    ends: Mutex<HashMap<String, End>>,
}

/// The end of a session, from the moment at which somebody asked for it.
#[derive(Debug, Default, Clone)]
struct End {
    /// As what it was asked for: one of these is what it came to, if it came to it.
    asked: Vec<&'static str>,
    /// Whether anybody was told that it has ended. There is no way back from that.
    answered: bool,
}

impl Board {
    fn new() -> Self {
        Self {
            sessions: Mutex::default(),
            ends: Mutex::default(),
        }
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<String, End>> {
        self.ends.lock().unwrap()
    }

    /// Before the request is sent.
    fn end_is_asked(&self, session: &str, reason: &'static str) {
        let mut ends = self.ends();
        ends.entry(session.to_owned())
            .or_default()
            .asked
            .push(reason);
    }

    fn end_is_answered(&self, session: &str) {
        self.ends().get_mut(session).unwrap().answered = true;
    }

    fn end(&self, session: &str) -> End {
        self.ends().get(session).cloned().unwrap_or_default()
    }
}

/// The service died before it answered.
#[derive(Debug)]
struct Lost;

/// A client of the service, who does one thing at a time.
struct Client<'lane> {
    number: usize,
    port: u16,
    board: &'lane Board,
    chance: Chance,
    line: Option<Line>,
    signed_in: Option<SignedIn>,
    /// How many successors it was given.
    generation: u32,
    /// Whether the answer to the last refresh was lost.
    in_doubt: bool,
    /// The last that it held of sessions that are over.
    over: Vec<SignedIn>,
    answers: u32,
}

impl<'lane> Client<'lane> {
    fn new(number: usize, port: u16, board: &'lane Board, chance: Chance) -> Self {
        Self {
            number,
            port,
            board,
            chance,
            line: None,
            signed_in: None,
            generation: 0,
            in_doubt: false,
            over: Vec::new(),
            answers: 0,
        }
    }

    /// Does what clients do, until the service dies.
    fn go_on_until_lost(&mut self) {
        while self.do_something().is_ok() {}
        self.line = None;
    }

    fn do_something(&mut self) -> Result<(), Lost> {
        let Some(me) = self.signed_in.clone() else {
            return self.sign_in("");
        };
        match self.chance.below(100) {
            0 | 1 => self.sign_out(&me),
            2 | 3 => self.end_somebody_elses(&me),
            4 => self.sign_in_anew(&me),
            5..30 => self.look(&me),
            _ => self.refresh(&me),
        }
    }

    fn ask(&mut self, start: &str, headers: &str, body: &str) -> Result<Reply, Lost> {
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::connect(self.port).map_err(|_| Lost)?),
        };
        let reply = line.ask(start, headers, body).map_err(|error| {
            assert!(!is_silence(error.kind()), "it hangs: {start}");
            Lost
        })?;
        self.answers += 1;
        Ok(reply)
    }

    fn sign_in(&mut self, cookies: &str) -> Result<(), Lost> {
        let headers = format!("{JSON}{cookies}");
        let body = login_body("ana", PASSWORD);
        let reply = self.ask("POST /users/login", &headers, &body)?;
        let me = SignedIn::from_reply(&reply);
        self.board.sessions.lock().unwrap()[self.number] = Some(me.session.clone());
        self.signed_in = Some(me);
        (self.generation, self.in_doubt) = (0, false);
        Ok(())
    }

    /// Which ends the session that the browser had.
    fn sign_in_anew(&mut self, me: &SignedIn) -> Result<(), Lost> {
        self.board.end_is_asked(&me.session, "replaced_by_login");
        self.sign_in(&me.cookies())?;
        self.board.end_is_answered(&me.session);
        self.over.push(me.clone());
        Ok(())
    }

    fn sign_out(&mut self, me: &SignedIn) -> Result<(), Lost> {
        self.board.end_is_asked(&me.session, "logout");
        let reply = self.ask(LOGOUT, &me.cookies(), "")?;
        assert_eq!(reply.status, 204, "{reply:?}");
        self.board.end_is_answered(&me.session);
        self.is_over();
        Ok(())
    }

    fn end_somebody_elses(&mut self, me: &SignedIn) -> Result<(), Lost> {
        let other = (self.number + 1) % CLIENTS;
        let Some(victim) = self.board.sessions.lock().unwrap()[other].clone() else {
            return Ok(());
        };
        self.board.end_is_asked(&victim, "revoked_by_user");
        let end = format!("DELETE /users/sessions/{victim}");
        let before = self.board.end(&me.session);
        let reply = self.ask(&end, &me.bearer(), "")?;
        if self.is_accepted(me, &before, &reply, 204) {
            self.board.end_is_answered(&victim);
        }
        Ok(())
    }

    fn look(&mut self, me: &SignedIn) -> Result<(), Lost> {
        let before = self.board.end(&me.session);
        let reply = self.ask("GET /users/user", &me.bearer(), "")?;
        self.is_accepted(me, &before, &reply, 200);
        Ok(())
    }

    fn refresh(&mut self, me: &SignedIn) -> Result<(), Lost> {
        let before = self.board.end(&me.session);
        self.in_doubt = true;
        let reply = self.ask(REFRESH, &me.cookies(), "")?;
        self.in_doubt = false;
        if self.is_accepted(me, &before, &reply, 200) {
            let renewed = SignedIn::from_reply(&reply);
            assert_eq!(renewed.session, me.session);
            assert_ne!(renewed.cookie, me.cookie);
            self.signed_in = Some(renewed);
            self.generation += 1;
        }
        Ok(())
    }

    /// Whether the session is accepted. It may be unless its end had been answered `before` this was
    /// asked; it must be unless somebody has asked for its end.
    fn is_accepted(&mut self, me: &SignedIn, before: &End, reply: &Reply, accepted: u16) -> bool {
        if reply.status == accepted {
            assert!(!before.answered, "{} came back: {reply:?}", me.session);
            return true;
        }
        let problem = reply.refused(401, "session_ended");
        let now = self.board.end(&me.session);
        let reason = problem["end_reason"].as_str().unwrap();
        assert!(now.asked.contains(&reason), "{now:?}: {reply:?}");
        self.board.end_is_answered(&me.session);
        self.is_over();
        false
    }

    fn is_over(&mut self) {
        self.over.extend(self.signed_in.take());
        self.board.sessions.lock().unwrap()[self.number] = None;
    }
}

/// Whether this is how a read that waited in vain ends.
fn is_silence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What has been seen to happen.
#[derive(Debug, Default)]
struct Tally {
    kills: u32,
    killed_starts: u32,
    answers: u32,
    /// Refreshes whose answer was lost.
    lost: u32,
    /// Those of them that had been committed.
    lost_after_commit: u32,
    ends: usize,
    /// Ends that were asked for, and neither answered nor found to have come to pass.
    ends_in_doubt: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.killed_starts += other.killed_starts;
        self.answers += other.answers;
        self.lost += other.lost;
        self.lost_after_commit += other.lost_after_commit;
        self.ends += other.ends;
        self.ends_in_doubt += other.ends_in_doubt;
    }
}

/// A service that is killed and started so many times.
fn kill_and_start_again(rounds: u32, seed: u64) -> Tally {
    let mut chance = Chance::of(seed);
    let place = Place::new();
    place.settings(SETTINGS);
    place.add_user("ana");
    let board = Board::new();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let chance = chance.another();
            Client::new(number, place.port, &board, chance)
        })
        .collect();
    let mut tally = Tally::default();
    let mut service = place.serve();
    for client in &mut clients {
        client.sign_in("").unwrap();
    }
    for _ in 0..rounds {
        let said = thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.go_on_until_lost());
            }
            chance.wait_at_most(LONGEST_LOAD);
            service.kill()
        });
        assert!(!said.contains("panicked"), "{said}");
        tally.kills += 1;
        if chance.below(8) == 0 {
            kill_while_it_starts(&place, &mut chance);
            tally.killed_starts += 1;
        }
        service = place.serve();
        assert_eq!(place.integrity(), "ok");
        for client in &mut clients {
            go_on_after_a_crash(&place, client, &mut tally);
        }
    }
    // Whatever was over stayed over, through all that came after.
    for client in &mut clients {
        tally.answers += client.answers;
        for over in &client.over {
            assert_over(&place, &board, over);
        }
    }
    tally.ends = board.ends().values().filter(|end| end.answered).count();
    tally.ends_in_doubt = board.ends().len() - tally.ends;
    tally
}

fn kill_while_it_starts(place: &Place, chance: &mut Chance) {
    let mut starting = place.command(&["serve"]).spawn().unwrap();
    chance.wait_at_most(LONGEST_START);
    starting.kill().unwrap();
    starting.wait().unwrap();
}

/// A client whose last answer may have been lost goes on, as if nothing had happened.
fn go_on_after_a_crash(place: &Place, client: &mut Client<'_>, tally: &mut Tally) {
    let ended_before = client.over.len().saturating_sub(2);
    for over in &client.over[ended_before..] {
        assert_over(place, client.board, over);
    }
    let Some(me) = client.signed_in.clone() else {
        // Some do so under load: hashing takes as long as all that time, and rarely comes to its end.
        if client.chance.below(4) > 0 {
            client.sign_in("").unwrap();
        }
        return;
    };
    let kept = place.generation(&me.session).unwrap();
    if client.in_doubt {
        tally.lost += 1;
        tally.lost_after_commit += kept - client.generation;
        assert!(kept <= client.generation + 1, "{kept}");
    } else {
        assert_eq!(kept, client.generation, "what was answered is what is kept");
    }
    // In the old cookie's grace, if there is a new one.
    client.refresh(&me).unwrap();
    if client.signed_in.is_some() {
        // One lineage: not a successor more than the client was given.
        assert_eq!(place.generation(&me.session), Some(client.generation));
        client.look(&me).unwrap();
    }
}

fn assert_over(place: &Place, board: &Board, over: &SignedIn) {
    let end = board.end(&over.session);
    for reply in [over.refresh(place.port), over.user(place.port)] {
        let problem = reply.refused(401, "session_ended");
        let reason = problem["end_reason"].as_str().unwrap();
        assert!(end.asked.contains(&reason), "{end:?}: {reply:?}");
    }
}

/// Several services, each in its own place: while one is started, another is under load.
fn lanes(lanes: u64, rounds: u32) -> Tally {
    let seed = Chance::seed();
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| scope.spawn(move || kill_and_start_again(rounds, seed.wrapping_add(lane))))
            .collect();
        for lane in lanes {
            tally.add(&lane.join().unwrap());
        }
    });
    println!("{tally:?}");
    tally
}

#[test]
fn nothing_that_was_answered_is_lost_by_a_kill() {
    let tally = lanes(2, 10);
    assert_eq!(tally.kills, 20);
}

#[test]
#[ignore = "a thousand times the same: takes minutes"]
fn nothing_that_was_answered_is_lost_by_a_thousand_kills() {
    let tally = lanes(4, 250);
    assert_eq!(tally.kills, 1_000);
    // Or it would prove nothing.
    let before_commit = tally.lost - tally.lost_after_commit;
    assert!(before_commit > 0 && tally.lost_after_commit > 0 && tally.ends > 100);
}

#[test]
fn a_rotation_whose_answer_a_crash_took_is_answered_with_the_same_successor() {
    let place = Place::new();
    place.add_user("ana");
    let service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    // The answer that she never sees.
    let lost = SignedIn::from_reply(&ana.refresh(place.port));
    service.kill();

    let _service = place.serve();
    assert_eq!(place.generation(&ana.session), Some(1), "it was committed");
    for _ in 0..2 {
        let again = SignedIn::from_reply(&ana.refresh(place.port));
        assert_eq!(again.cookie, lost.cookie, "to the byte");
        assert_eq!(again.user(place.port).status, 200);
    }
    assert_eq!(place.generation(&ana.session), Some(1));
    assert_eq!(lost.refresh(place.port).status, 200);
    assert_eq!(place.generation(&ana.session), Some(2));
}

#[test]
fn a_rotation_that_a_crash_kept_from_its_commit_has_not_happened() {
    let place = Place::new();
    place.settings("database.timeout = \"30s\"");
    place.add_user("ana");
    let service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    // Nobody else can commit while this lasts.
    let stranger = place.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut lines = [REFRESH, LOGOUT].map(|start| {
        let mut line = Line::connect(place.port).unwrap();
        line.say(start, &ana.cookies(), "").unwrap();
        line
    });
    let answered = try_get(place.port, "/docs");
    assert_eq!(answered.unwrap().status, 200, "it is at work");
    thread::sleep(Duration::from_millis(300));
    service.kill();
    for line in &mut lines {
        line.hear().expect_err("nothing was promised");
    }
    drop(stranger);

    let _service = place.serve();
    assert_eq!(place.generation(&ana.session), Some(0));
    assert_eq!(ana.refresh(place.port).status, 200);
    assert_eq!(place.generation(&ana.session), Some(1));
}

#[test]
fn a_logout_that_was_answered_survives_a_kill() {
    let place = Place::new();
    place.add_user("ana");
    let mut service = place.serve();
    for scope in ["local", "global"] {
        let ana = SignedIn::new(place.port, "ana");
        let headers = format!("{JSON}{}", ana.cookies());
        let body = format!("{{\"scope\": \"{scope}\"}}");
        assert_eq!(send(place.port, LOGOUT, &headers, &body).status, 204);
        service.kill();
        service = place.serve();
        for reply in [ana.refresh(place.port), ana.user(place.port)] {
            let problem = reply.refused(401, "session_ended");
            assert_eq!(problem["end_reason"], "logout");
        }
    }
}
