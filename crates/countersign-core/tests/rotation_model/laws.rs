//! What must hold in every state, and what must be seen in some.

use countersign_core::rotation::Decision;
use stateright::Property;

use crate::world::{Event, GRACE, Party, Phase, State, Thief, World};

/// What must never be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Law {
    OneSuccessor,
    OneToken,
    CurrentOrPrevious,
    LostOnce,
    NothingAfterTheEnd,
    EndStands,
    ReuseEnds,
    NobodyCatchesUp,
    HonestAnswered,
    CookieIsGood,
    CookieGoesForward,
    Converges,
}

impl Law {
    pub(crate) const ALL: [Self; 12] = [
        Self::OneSuccessor,
        Self::OneToken,
        Self::CurrentOrPrevious,
        Self::LostOnce,
        Self::NothingAfterTheEnd,
        Self::EndStands,
        Self::ReuseEnds,
        Self::NobodyCatchesUp,
        Self::HonestAnswered,
        Self::CookieIsGood,
        Self::CookieGoesForward,
        Self::Converges,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OneSuccessor => "a generation is rotated at most once",
            Self::OneToken => "all grants of a generation are the same token",
            Self::CurrentOrPrevious => {
                "only the current token is answered, and the previous one within the grace"
            }
            Self::LostOnce => "a race is lost at most once",
            Self::NothingAfterTheEnd => "nothing is rotated or granted after the end",
            Self::EndStands => "the first end stands",
            Self::ReuseEnds => "after a reuse the session is over",
            Self::NobodyCatchesUp => "whoever has fallen behind never catches up",
            Self::HonestAnswered => "an honest request is never refused",
            Self::CookieIsGood => "the cookie in the jar is always good",
            Self::CookieGoesForward => "the cookie in the jar never goes back",
            Self::Converges => "tabs that race end with one token",
        }
    }

    pub(crate) fn property(self) -> Property<World> {
        let holds: fn(&World, &State) -> bool = match self {
            Self::OneSuccessor => |_, state| state.keeps(Self::OneSuccessor),
            Self::OneToken => |_, state| state.keeps(Self::OneToken),
            Self::CurrentOrPrevious => |_, state| state.keeps(Self::CurrentOrPrevious),
            Self::LostOnce => |_, state| state.keeps(Self::LostOnce),
            Self::NothingAfterTheEnd => |_, state| state.keeps(Self::NothingAfterTheEnd),
            Self::EndStands => |_, state| state.keeps(Self::EndStands),
            Self::ReuseEnds => |_, state| state.keeps(Self::ReuseEnds),
            Self::NobodyCatchesUp => |_, state| state.keeps(Self::NobodyCatchesUp),
            Self::HonestAnswered => |_, state| state.keeps(Self::HonestAnswered),
            Self::CookieIsGood => |world, state| {
                state.row.end.is_some()
                    || matches!(
                        state.row.decide(world.service.decide, state.jar, state.now),
                        Decision::Rotate | Decision::Replay
                    )
            },
            Self::CookieGoesForward => |_, state| state.keeps(Self::CookieGoesForward),
            Self::Converges => {
                |_, state| state.in_flight() == 0 && state.jar == 1 && state.row.generation == 1
            }
        };
        match self {
            Self::Converges => Property::eventually(self.name(), holds),
            _ => Property::always(self.name(), holds),
        }
    }
}

impl State {
    fn keeps(&self, law: Law) -> bool {
        !self.broken.contains(&law)
    }
}

/// What must be seen somewhere, so that a law is not kept for want of anything happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    LastGeneration,
    Replay,
    LostRace,
    EndDuringRotation,
    CrashBeforeCommit,
    CrashBeforeReply,
    OwnerBehind,
    ThiefBehind,
    NoticedByOwner,
    NoticedByThief,
    InStep,
}

impl Sight {
    pub(crate) fn property(self) -> Property<World> {
        let is_seen: fn(&World, &State) -> bool = match self {
            Self::LastGeneration => |world, state| state.row.generation == world.bounds.generations,
            Self::Replay => |_, state| {
                let is_replay = |phase| {
                    matches!(
                        phase,
                        Phase::Answering {
                            is_replay: true,
                            ..
                        }
                    )
                };
                state
                    .handlers
                    .iter()
                    .any(|handler| is_replay(handler.phase))
            },
            Self::LostRace => |_, state| state.handlers.iter().any(|handler| handler.lost > 0),
            Self::EndDuringRotation => |_, state| {
                let is_rotating = |phase| matches!(phase, Phase::Rotating { .. });
                let mut handlers = state.handlers.iter();
                state.row.end.is_some() && handlers.any(|handler| is_rotating(handler.phase))
            },
            Self::CrashBeforeCommit => |_, state| state.event == Some(Event::CrashBeforeCommit),
            Self::CrashBeforeReply => |_, state| state.event == Some(Event::CrashBeforeReply),
            Self::OwnerBehind => |_, state| state.has_fallen_behind(Party::Owner),
            Self::ThiefBehind => |_, state| state.has_fallen_behind(Party::Thief),
            Self::NoticedByOwner => {
                |_, state| state.event == Some(Event::ReuseNoticed(Party::Owner))
            }
            Self::NoticedByThief => {
                |_, state| state.event == Some(Event::ReuseNoticed(Party::Thief))
            }
            Self::InStep => |_, state| {
                let current = Some(state.row.generation);
                let has_gone_on = |thief: Thief| thief.latest >= thief.stole + 2;
                state.row.end.is_none()
                    && state.now - state.row.rotated_at > GRACE
                    && state.reach(Party::Owner) == current
                    && state.reach(Party::Thief) == current
                    && state.thief.is_some_and(has_gone_on)
            },
        };
        Property::sometimes(self.name(), is_seen)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::LastGeneration => "the last generation is reached",
            Self::Replay => "a replay is answered",
            Self::LostRace => "a race is lost",
            Self::EndDuringRotation => "the end comes during a rotation",
            Self::CrashBeforeCommit => "a crash comes before a commit",
            Self::CrashBeforeReply => "a crash comes between commit and reply",
            Self::OwnerBehind => "the owner falls behind",
            Self::ThiefBehind => "the thief falls behind",
            Self::NoticedByOwner => "the owner's token gives the theft away",
            Self::NoticedByThief => "the thief's token gives the theft away",
            Self::InStep => "a thief keeps step with the owner",
        }
    }
}
