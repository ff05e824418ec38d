//! The world in which a session is refreshed, small enough that every state of it can be visited.
//!
//! The decision is the real one, [`countersign_core::rotation::decide`], on real sessions. Around it
//! stands what `auth/refresh.rs` does with the answer, step by step, so that the steps of several
//! requests can come in any order and a crash can come between any two.

use countersign_core::rotation::Decision;
use countersign_core::session::{
    EndReason, EndedBy, Generation, Session, SessionEnd, SessionId, SessionLimits,
};
use countersign_core::user::UserId;
use jiff::Timestamp;
use stateright::{Model, Property};
use uuid::Uuid;

use crate::laws::{Law, Sight};

/// Time, in halves of the grace.
pub(crate) type Tick = i8;

/// The grace in ticks: two are within it, three are not.
pub(crate) const GRACE: Tick = 2;

/// The limits of the model's session: the default grace of 30 seconds, two ticks of 15. The other
/// two are days away and never reached.
fn limits() -> SessionLimits {
    SessionLimits::default()
}

fn moment(tick: Tick) -> Timestamp {
    let seconds = 1_795_341_600 + 15 * i64::from(tick);
    Timestamp::from_second(seconds).expect("a moment of this century")
}

/// `countersign_core::rotation::decide`, or something that a careless change could make of it.
pub(crate) type Decide = fn(&Session, Generation, Timestamp, &SessionLimits) -> Decision;

/// The session's row: all that survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) generation: u32,
    pub(crate) rotated_at: Tick,
    pub(crate) end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum End {
    Logout,
    ReuseDetected,
}

impl Row {
    pub(crate) fn decide(self, decide: Decide, presented: u32, now: Tick) -> Decision {
        decide(
            &self.session(),
            Generation(presented),
            moment(now),
            &limits(),
        )
    }

    fn session(self) -> Session {
        let end = self.end.map(|end| SessionEnd {
            reason: match end {
                End::Logout => EndReason::Logout,
                End::ReuseDetected => EndReason::ReuseDetected,
            },
            at: moment(0),
            by: EndedBy::Service,
        });
        Session {
            id: SessionId(Uuid::nil()),
            user_id: UserId(1),
            generation: Generation(self.generation),
            opened_at: moment(0),
            rotated_at: moment(self.rotated_at),
            remember: true,
            address: None,
            user_agent: None,
            end,
        }
    }

    fn token(self) -> Token {
        Token {
            generation: self.generation,
            rotated_at: self.rotated_at,
        }
    }

    fn is_live(self) -> bool {
        self.end.is_none()
    }
}

/// A refresh token. Its bytes are made of these two and of what never changes in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) generation: u32,
    pub(crate) rotated_at: Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Party {
    Owner,
    Thief,
}

/// A request that the service works on. It does not survive a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Handler {
    pub(crate) party: Party,
    pub(crate) presented: u32,
    /// How many races it has lost.
    pub(crate) lost: u8,
    pub(crate) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// About to read the session.
    Reading,
    /// Has read it, about to look at the clock and decide.
    Deciding { seen: Row },
    /// About to compare and set.
    Rotating { seen: Row, at: Tick },
    /// About to end the session.
    Ending,
    /// About to reply.
    Answering { token: Token, is_replay: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) now: Tick,
    pub(crate) row: Row,
    /// The requests at work, in order: which of two equal ones is which makes no difference.
    pub(crate) handlers: Vec<Handler>,
    /// The browser's requests under way, by the generation that their cookie names.
    pub(crate) requests: Vec<u32>,
    /// The replies under way to the browser.
    pub(crate) replies: Vec<Token>,
    /// The generation that the browser's one cookie names, whatever tab asks.
    pub(crate) jar: u32,
    pub(crate) thief: Option<Thief>,
    /// For [`Law::OneToken`]: when each generation began, as the first grant of it says.
    pub(crate) issued: Vec<Tick>,
    pub(crate) event: Option<Event>,
    /// The laws that the last step broke.
    pub(crate) broken: Vec<Law>,
}

/// What the thief has: every token up to the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Thief {
    pub(crate) stole: u32,
    pub(crate) latest: u32,
}

/// What the last step was, where a [`Sight`] asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    CrashBeforeCommit,
    CrashBeforeReply,
    ReuseNoticed(Party),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Some tab sends a refresh with the cookie as it is: a first one, or again after a failure.
    Send,
    /// A request reaches the service; `again`: and a copy of it is still under way.
    Deliver { cookie: u32, again: bool },
    /// A request is lost.
    LoseRequest { cookie: u32 },
    /// A handler does its next step.
    Step(Handler),
    /// A reply reaches the browser, which keeps its cookie; `again`: and a copy is still under way.
    Arrive { token: Token, again: bool },
    /// A reply is lost.
    LoseReply { token: Token },
    /// The service dies and starts again.
    Crash,
    /// The session is ended from elsewhere.
    Logout,
    /// The cookie is copied.
    Steal,
    /// The thief sends a token.
    Present { generation: u32 },
    /// Half a grace passes.
    Tick,
    /// Somebody sets the clock.
    SetClock { to: Tick },
}

/// When the browser's tabs send a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tabs {
    /// One at a time, as under a Web Lock: not while any request or reply is under way.
    TakeTurns,
    /// Several at once with the same cookie, but not with the next cookie while a request or a reply
    /// of the one before is under way.
    Race,
    /// Whenever they like.
    DoAsTheyLike,
    /// This many have sent one at the same time, and no more is sent.
    HaveSent(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Stands still.
    Stopped,
    /// Runs forward; what the browser has begun is done within the grace.
    Punctual,
    /// Runs forward.
    Steady,
    /// Can be set to any time at any time.
    Unsteady,
    /// Stands still, or is set back.
    SetBack,
}

/// The service: the real one, or one with something broken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) decide: Decide,
    pub(crate) defect: Option<Defect>,
}

/// What a careless change could break around the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The row is set, whatever generation it is at.
    ComparesNoGeneration,
    /// The row is set, ended or not.
    ComparesNoEnd,
    /// Whoever loses the race answers as if it had won.
    LoserAnswers,
    /// A reuse is refused and no more.
    ReuseEndsNothing,
}

impl Service {
    pub(crate) const REAL: Self = Self {
        decide: countersign_core::rotation::decide,
        defect: None,
    };

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How often the session can be rotated.
    pub(crate) generations: u32,
    /// How far a clock that is set can be set. Others run without bound.
    pub(crate) ticks: Tick,
    /// How many requests and replies there can be at once, under way and at work.
    pub(crate) in_flight: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) tabs: Tabs,
    /// Whether requests and replies can be lost, and come twice. They always come in any order.
    pub(crate) is_network_lossy: bool,
    /// Whether the service can crash, and the session be ended from elsewhere.
    pub(crate) has_accidents: bool,
    pub(crate) has_thief: bool,
    pub(crate) clock: Clock,
    pub(crate) service: Service,
    pub(crate) bounds: Bounds,
    pub(crate) laws: Vec<Law>,
    pub(crate) sights: Vec<Sight>,
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let requests = match self.tabs {
            Tabs::HaveSent(count) => vec![0; count],
            _ => Vec::new(),
        };
        let now = match self.clock {
            Clock::SetBack => self.bounds.ticks,
            _ => 0,
        };
        vec![State {
            now,
            row: Row {
                generation: 0,
                rotated_at: now,
                end: None,
            },
            handlers: Vec::new(),
            requests,
            replies: Vec::new(),
            jar: 0,
            thief: None,
            issued: vec![now],
            event: None,
            broken: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.broken.is_empty() {
            return;
        }
        // What is sent after the end fares as what was under way before it.
        let has_room = state.row.is_live() && state.in_flight() < self.bounds.in_flight;
        if has_room && self.may_send(state) {
            actions.push(Action::Send);
        }
        for cookie in distinct(&state.requests) {
            actions.push(Action::Deliver {
                cookie,
                again: false,
            });
            if self.is_network_lossy {
                if has_room {
                    actions.push(Action::Deliver {
                        cookie,
                        again: true,
                    });
                }
                actions.push(Action::LoseRequest { cookie });
            }
        }
        actions.extend(distinct(&state.handlers).map(Action::Step));
        for token in distinct(&state.replies) {
            actions.push(Action::Arrive {
                token,
                again: false,
            });
            if self.is_network_lossy {
                actions.push(Action::Arrive { token, again: true });
                actions.push(Action::LoseReply { token });
            }
        }
        if self.has_accidents && !state.handlers.is_empty() {
            actions.push(Action::Crash);
        }
        if self.has_accidents && state.row.is_live() {
            actions.push(Action::Logout);
        }
        if self.has_thief {
            match state.thief {
                None => actions.push(Action::Steal),
                Some(thief) if has_room => {
                    actions.extend(
                        (0..=thief.latest).map(|generation| Action::Present { generation }),
                    );
                }
                Some(_) => {}
            }
        }
        self.clock_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = State {
            event: None,
            ..last.clone()
        };
        match action {
            Action::Send => next.requests.push(last.jar),
            Action::Deliver { cookie, again } => {
                if !again {
                    remove(&mut next.requests, &cookie);
                }
                next.handlers.push(Handler::new(Party::Owner, cookie));
            }
            Action::LoseRequest { cookie } => remove(&mut next.requests, &cookie),
            Action::Step(handler) => {
                remove(&mut next.handlers, &handler);
                self.step(&mut next, handler);
            }
            Action::Arrive { token, again } => {
                if !again {
                    remove(&mut next.replies, &token);
                }
                if token.generation < last.jar {
                    next.broken.push(Law::CookieGoesForward);
                }
                next.jar = token.generation;
            }
            Action::LoseReply { token } => remove(&mut next.replies, &token),
            Action::Crash => {
                next.event = last.handlers.iter().find_map(Handler::crashes);
                next.handlers.clear();
            }
            Action::Logout => next.row.end = Some(End::Logout),
            Action::Steal => {
                next.thief = Some(Thief {
                    stole: last.jar,
                    latest: last.jar,
                });
            }
            Action::Present { generation } => {
                next.handlers.push(Handler::new(Party::Thief, generation));
            }
            Action::Tick => next.age(),
            Action::SetClock { to } => next.now = to,
        }
        next.handlers.sort_unstable();
        next.requests.sort_unstable();
        next.replies.sort_unstable();
        if last.row.end.is_some() && next.row.end != last.row.end {
            next.broken.push(Law::EndStands);
        }
        for party in [Party::Owner, Party::Thief] {
            if last.has_fallen_behind(party) && next.row.is_live() && !next.has_fallen_behind(party)
            {
                next.broken.push(Law::NobodyCatchesUp);
            }
        }
        if !self.laws.contains(&Law::OneToken) {
            next.issued.clear();
        }
        next.broken.retain(|law| self.laws.contains(law));
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let laws = self.laws.iter().map(|law| law.property());
        laws.chain(self.sights.iter().map(|sight| sight.property()))
            .collect()
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.row.generation <= self.bounds.generations
    }
}

impl World {
    fn may_send(&self, state: &State) -> bool {
        match self.tabs {
            Tabs::TakeTurns => state.in_flight() == 0,
            Tabs::Race => {
                let mut presented = state.presented_by_owner();
                let mut replied = state.replies.iter();
                presented.all(|cookie| cookie == state.jar)
                    && replied.all(|token| token.generation > state.jar)
            }
            Tabs::DoAsTheyLike => true,
            Tabs::HaveSent(_) => false,
        }
    }

    fn clock_actions(&self, state: &State, actions: &mut Vec<Action>) {
        match self.clock {
            Clock::Stopped => {}
            Clock::Punctual if state.would_be_late() => {}
            Clock::Punctual | Clock::Steady => actions.push(Action::Tick),
            Clock::Unsteady => {
                let other = (0..=self.bounds.ticks).filter(|to| *to != state.now);
                actions.extend(other.map(|to| Action::SetClock { to }));
            }
            Clock::SetBack => {
                actions.extend((0..state.now).map(|to| Action::SetClock { to }));
            }
        }
    }

    /// The next step of a handler: `Auth::advance`, cut where it waits for the store.
    fn step(&self, state: &mut State, handler: Handler) {
        let in_phase = |phase| Handler { phase, ..handler };
        match handler.phase {
            Phase::Reading => state
                .handlers
                .push(in_phase(Phase::Deciding { seen: state.row })),
            Phase::Deciding { seen } => {
                let decision = seen.decide(self.service.decide, handler.presented, state.now);
                state.judge(handler, seen, decision);
                match decision {
                    Decision::Ended(_) => {}
                    Decision::Reuse => state.handlers.push(in_phase(Phase::Ending)),
                    Decision::Replay => {
                        let token = seen.token();
                        state.grant(token);
                        state.handlers.push(in_phase(Phase::Answering {
                            token,
                            is_replay: true,
                        }));
                    }
                    Decision::Rotate => {
                        let at = state.now;
                        state.handlers.push(in_phase(Phase::Rotating { seen, at }));
                    }
                }
            }
            Phase::Rotating { seen, at } => {
                let rotated = Row {
                    generation: seen.generation + 1,
                    rotated_at: at,
                    ..seen
                };
                let answering = in_phase(Phase::Answering {
                    token: rotated.token(),
                    is_replay: false,
                });
                if self.rotate(state, rotated) || self.service.has(Defect::LoserAnswers) {
                    state.grant(rotated.token());
                    state.handlers.push(answering);
                } else if handler.lost > 0 {
                    state.broken.push(Law::LostOnce);
                } else {
                    state.handlers.push(Handler {
                        lost: handler.lost + 1,
                        ..in_phase(Phase::Reading)
                    });
                }
            }
            Phase::Ending => {
                if state.row.is_live() && !self.service.has(Defect::ReuseEndsNothing) {
                    state.row.end = Some(End::ReuseDetected);
                    state.event = Some(Event::ReuseNoticed(handler.party));
                }
                if state.row.is_live() {
                    state.broken.push(Law::ReuseEnds);
                }
            }
            Phase::Answering { token, .. } => match (handler.party, &mut state.thief) {
                (Party::Thief, Some(thief)) => thief.latest = thief.latest.max(token.generation),
                _ => state.replies.push(token),
            },
        }
    }

    /// `Store::rotate`: false if the row is not as it was read.
    fn rotate(&self, state: &mut State, rotated: Row) -> bool {
        let is_at_generation = state.row.generation + 1 == rotated.generation;
        let passes = |holds: bool, without| holds || self.service.has(without);
        if !passes(is_at_generation, Defect::ComparesNoGeneration)
            || !passes(state.row.is_live(), Defect::ComparesNoEnd)
        {
            return false;
        }
        // A row past this generation was rotated from it before.
        if !is_at_generation {
            state.broken.push(Law::OneSuccessor);
        }
        if !state.row.is_live() {
            state.broken.push(Law::NothingAfterTheEnd);
        }
        state.row.generation = rotated.generation;
        state.row.rotated_at = rotated.rotated_at;
        true
    }
}

impl Handler {
    fn new(party: Party, presented: u32) -> Self {
        Self {
            party,
            presented,
            lost: 0,
            phase: Phase::Reading,
        }
    }

    /// What a crash now is to this request.
    fn crashes(&self) -> Option<Event> {
        match self.phase {
            Phase::Rotating { .. } => Some(Event::CrashBeforeCommit),
            Phase::Answering {
                is_replay: false, ..
            } => Some(Event::CrashBeforeReply),
            _ => None,
        }
    }
}

impl State {
    pub(crate) fn in_flight(&self) -> usize {
        self.requests.len() + self.handlers.len() + self.replies.len()
    }

    fn handlers_of(&self, party: Party) -> impl Iterator<Item = &Handler> {
        self.handlers
            .iter()
            .filter(move |handler| handler.party == party)
    }

    /// The cookies of the browser's requests that have no reply yet.
    fn presented_by_owner(&self) -> impl Iterator<Item = u32> {
        let at_work = self.handlers_of(Party::Owner);
        let at_work = at_work.map(|handler| handler.presented);
        self.requests.iter().copied().chain(at_work)
    }

    /// Whether another tick would take what the browser has begun past the grace.
    fn would_be_late(&self) -> bool {
        let next = self.now + 1;
        let is_behind = |cookie| cookie < self.row.generation;
        let awaits_successor = is_behind(self.jar) || self.presented_by_owner().any(is_behind);
        let is_late = |since: Tick| next - since > GRACE;
        let would_rotate_late = self.handlers.iter().any(|handler| match handler.phase {
            Phase::Rotating { at, .. } => is_late(at),
            _ => false,
        });
        self.row.is_live()
            && ((awaits_successor && is_late(self.row.rotated_at)) || would_rotate_late)
    }

    /// A tick passes: instead of the clock going forward, all that happened moves back. What lies
    /// past the grace is all alike, so that time needs no bound.
    fn age(&mut self) {
        let oldest = self.now - GRACE - 1;
        let age = |tick: &mut Tick| *tick = (*tick - 1).max(oldest);
        age(&mut self.row.rotated_at);
        self.issued.iter_mut().for_each(age);
        for token in &mut self.replies {
            age(&mut token.rotated_at);
        }
        for handler in &mut self.handlers {
            match &mut handler.phase {
                Phase::Reading | Phase::Ending => {}
                Phase::Deciding { seen } => age(&mut seen.rotated_at),
                Phase::Rotating { seen, at } => {
                    age(&mut seen.rotated_at);
                    age(at);
                }
                Phase::Answering { token, .. } => age(&mut token.rotated_at),
            }
        }
    }

    /// The latest generation that a party has, or will be given for what it has sent.
    pub(crate) fn reach(&self, party: Party) -> Option<u32> {
        let in_hand = match party {
            Party::Owner => Some(self.jar),
            Party::Thief => Some(self.thief?.latest),
        };
        let at_work = self.handlers_of(party).map(|handler| match handler.phase {
            Phase::Answering { token, .. } => token.generation,
            Phase::Deciding { seen }
                if handler.presented + 1 == seen.generation && self.is_within_grace(seen) =>
            {
                seen.generation
            }
            _ => handler.presented,
        });
        let replies = self.replies.iter().filter(|_| party == Party::Owner);
        let requests = self.requests.iter().filter(|_| party == Party::Owner);
        in_hand
            .into_iter()
            .chain(at_work)
            .chain(replies.map(|token| token.generation))
            .chain(requests.copied())
            .max()
    }

    /// Whether the session has gone on without a party, for longer than the grace or more than once:
    /// it has nothing, and awaits nothing, that would still be answered.
    pub(crate) fn has_fallen_behind(&self, party: Party) -> bool {
        self.reach(party).is_some_and(|reach| {
            let is_previous = reach + 1 == self.row.generation;
            self.row.is_live()
                && reach < self.row.generation
                && !(is_previous && self.is_within_grace(self.row))
        })
    }

    fn is_within_grace(&self, row: Row) -> bool {
        (self.now - row.rotated_at).abs() <= GRACE
    }

    /// What the laws say about a decision.
    fn judge(&mut self, handler: Handler, seen: Row, decision: Decision) {
        let is_granted = matches!(decision, Decision::Rotate | Decision::Replay);
        let is_current = handler.presented == seen.generation;
        let is_previous = handler.presented + 1 == seen.generation;
        if is_granted && !is_current && !(is_previous && self.is_within_grace(seen)) {
            self.broken.push(Law::CurrentOrPrevious);
        }
        if is_granted && !seen.is_live() {
            self.broken.push(Law::NothingAfterTheEnd);
        }
        let is_refused = match decision {
            Decision::Rotate | Decision::Replay => false,
            Decision::Reuse => true,
            Decision::Ended(reason) => reason != EndReason::Logout,
        };
        if is_refused && handler.party == Party::Owner && self.row.is_live() {
            self.broken.push(Law::HonestAnswered);
        }
    }

    /// What the laws say about a grant.
    fn grant(&mut self, token: Token) {
        let index = usize::try_from(token.generation).expect("a small number");
        match self.issued.get(index) {
            None => self.issued.push(token.rotated_at),
            Some(first) if *first == token.rotated_at => {}
            Some(_) => self.broken.push(Law::OneToken),
        }
    }
}

fn distinct<T: Copy + PartialEq>(sorted: &[T]) -> impl Iterator<Item = T> {
    sorted.chunk_by(T::eq).map(|equal| equal[0])
}

fn remove<T: PartialEq>(items: &mut Vec<T>, item: &T) {
    let index = items.iter().position(|other| other == item);
    items.remove(index.expect("actions name what is there"));
}
