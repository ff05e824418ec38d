//! Every state that the refreshing of a session can reach in a small world, visited.
//!
//! `docs/security/rotation.md` tells what the world is made of and what holds in it. To see the
//! number of states: `cargo test -p countersign-core --test rotation_model -- --nocapture`.

mod defects;
mod laws;
mod world;

use std::collections::BTreeSet;
use std::fs;

use countersign_core::rotation::{Decision, decide};
use stateright::{Checker, HasDiscoveries, Model, Path};

use self::laws::{Law, Sight};
use self::world::{Action, Bounds, Clock, Decide, Defect, GRACE, Service, State, Tabs, World};

/// What holds whoever asks, whenever, whatever the clock shows.
const SAFETY: [Law; 6] = [
    Law::OneSuccessor,
    Law::CurrentOrPrevious,
    Law::LostOnce,
    Law::NothingAfterTheEnd,
    Law::EndStands,
    Law::ReuseEnds,
];

/// What a browser is promised that keeps to the rules.
const HONESTY: [Law; 3] = [
    Law::HonestAnswered,
    Law::CookieIsGood,
    Law::CookieGoesForward,
];

/// One browser in rough weather: requests and replies are lost, come twice and in any order, the
/// service crashes, the session ends.
fn a_browser() -> World {
    World {
        tabs: Tabs::TakeTurns,
        is_network_lossy: true,
        has_accidents: true,
        has_thief: false,
        clock: Clock::Punctual,
        service: Service::REAL,
        bounds: Bounds {
            generations: 3,
            ticks: 0,
            in_flight: 3,
        },
        laws: [&SAFETY[..], &[Law::OneToken], &HONESTY].concat(),
        sights: vec![
            Sight::LastGeneration,
            Sight::Replay,
            Sight::LostRace,
            Sight::EndDuringRotation,
            Sight::CrashBeforeCommit,
            Sight::CrashBeforeReply,
        ],
    }
}

/// The same with tabs that refresh at once.
fn racing_tabs() -> World {
    World {
        tabs: Tabs::Race,
        bounds: Bounds {
            generations: 2,
            ticks: 0,
            in_flight: 4,
        },
        ..a_browser()
    }
}

/// The same with tabs that keep to nothing.
fn unruly_tabs() -> World {
    World {
        tabs: Tabs::DoAsTheyLike,
        bounds: Bounds {
            generations: 2,
            ticks: 0,
            in_flight: 3,
        },
        laws: [&SAFETY[..], &[Law::OneToken]].concat(),
        ..a_browser()
    }
}

/// A browser, and a thief who has copied its cookie.
fn a_theft() -> World {
    World {
        tabs: Tabs::DoAsTheyLike,
        is_network_lossy: false,
        has_thief: true,
        clock: Clock::Steady,
        bounds: Bounds {
            generations: 3,
            ticks: 0,
            in_flight: 2,
        },
        laws: [&SAFETY[..], &[Law::NobodyCatchesUp]].concat(),
        sights: vec![
            Sight::LastGeneration,
            Sight::Replay,
            Sight::LostRace,
            Sight::OwnerBehind,
            Sight::ThiefBehind,
            Sight::NoticedByOwner,
            Sight::NoticedByThief,
            Sight::InStep,
        ],
        ..a_browser()
    }
}

/// The same while somebody plays with the clock.
fn an_unsteady_clock() -> World {
    World {
        has_accidents: false,
        clock: Clock::Unsteady,
        bounds: Bounds {
            generations: 2,
            ticks: GRACE + 1,
            in_flight: 2,
        },
        laws: SAFETY.to_vec(),
        sights: vec![
            Sight::LastGeneration,
            Sight::Replay,
            Sight::LostRace,
            Sight::NoticedByOwner,
            Sight::NoticedByThief,
        ],
        ..a_theft()
    }
}

/// Visits every state: all laws hold, all sights are seen.
fn prove(world: World) {
    let checker = world.checker().spawn_bfs().join();
    checker.assert_properties();
    println!(
        "{} states, {} steps between them, none more than {} from the start",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
    );
}

/// The shortest way in which a law is broken.
fn refute(world: &World, law: Law) -> Path<State, Action> {
    let world = World {
        laws: vec![law],
        sights: Vec::new(),
        ..world.clone()
    };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([law.name()]));
    let checker = world.checker().finish_when(found).spawn_bfs().join();
    let path = checker.assert_any_discovery(law.name());
    println!("{path}");
    path
}

fn deciding(decide: Decide, world: World) -> World {
    let service = Service {
        decide,
        ..Service::REAL
    };
    World { service, ..world }
}

fn with(defect: Defect, world: World) -> World {
    let service = Service {
        defect: Some(defect),
        ..Service::REAL
    };
    World { service, ..world }
}

// ------------------------------------------------------------------ what holds

#[test]
fn tabs_that_take_turns_are_never_signed_out() {
    prove(a_browser());
}

#[test]
fn tabs_that_race_with_one_cookie_are_never_signed_out() {
    prove(racing_tabs());
}

#[test]
fn tabs_that_race_end_with_one_token() {
    prove(World {
        tabs: Tabs::HaveSent(4),
        is_network_lossy: false,
        has_accidents: false,
        clock: Clock::Stopped,
        laws: vec![Law::Converges, Law::OneToken],
        sights: vec![Sight::Replay, Sight::LostRace],
        ..a_browser()
    });
}

#[test]
fn there_is_one_successor_whatever_the_tabs_do() {
    prove(unruly_tabs());
}

#[test]
fn a_thief_and_the_owner_cannot_both_go_on_past_the_grace() {
    prove(a_theft());
}

#[test]
fn whatever_the_clock_shows_there_is_one_successor_and_an_end_is_an_end() {
    prove(an_unsteady_clock());
}

// ------------------------------------------------------------------ what does not

#[test]
fn a_request_that_two_rotations_overtake_is_taken_for_theft() {
    let calm = World {
        is_network_lossy: false,
        has_accidents: false,
        ..unruly_tabs()
    };
    let path = refute(&calm, Law::HonestAnswered);
    assert_eq!(path.last_state().row.generation, 2);
}

#[test]
fn a_reply_that_a_newer_one_overtakes_puts_a_dead_cookie_back() {
    let calm = World {
        is_network_lossy: false,
        has_accidents: false,
        ..unruly_tabs()
    };
    let path = refute(&calm, Law::CookieGoesForward);
    let end = path.last_state();
    let after_the_grace = end.row.rotated_at + GRACE + 1;
    assert_eq!(
        end.row.decide(decide, end.jar, after_the_grace),
        Decision::Reuse
    );
}

#[test]
fn a_clock_set_back_into_the_grace_opens_it_again() {
    let path = refute(&an_unsteady_clock(), Law::NobodyCatchesUp);
    let end = path.last_state();
    assert_eq!(end.row.decide(decide, end.jar, end.now), Decision::Replay);
}

#[test]
fn a_clock_set_back_past_the_grace_takes_an_honest_race_for_theft() {
    let set_back = World {
        clock: Clock::SetBack,
        bounds: an_unsteady_clock().bounds,
        ..a_browser()
    };
    refute(&set_back, Law::HonestAnswered);
}

// ------------------------------------------------------------------ what would be noticed

#[test]
fn a_grace_without_a_limit_would_be_noticed() {
    let world = deciding(defects::without_a_limit, a_theft());
    refute(&world, Law::NobodyCatchesUp);
    refute(&world, Law::CurrentOrPrevious);
}

#[test]
fn a_grace_without_a_limit_in_the_past_would_be_noticed() {
    let world = deciding(defects::open_to_the_past, an_unsteady_clock());
    refute(&world, Law::CurrentOrPrevious);
}

#[test]
fn a_grace_that_ends_a_moment_early_would_be_noticed() {
    let world = deciding(defects::less_than_the_grace, a_browser());
    refute(&world, Law::HonestAnswered);
    refute(&world, Law::CookieIsGood);
}

#[test]
fn a_missing_grace_would_be_noticed() {
    refute(
        &deciding(defects::without_a_grace, racing_tabs()),
        Law::HonestAnswered,
    );
    refute(
        &deciding(defects::without_a_grace, a_browser()),
        Law::CookieIsGood,
    );
}

#[test]
fn answering_the_one_before_the_previous_would_be_noticed() {
    let world = deciding(defects::one_more_back, a_theft());
    refute(&world, Law::CurrentOrPrevious);
}

#[test]
fn a_grace_that_outlives_the_successor_would_be_noticed() {
    let world = deciding(defects::open_after_the_successor, a_theft());
    refute(&world, Law::CurrentOrPrevious);
    refute(&world, Law::NobodyCatchesUp);
}

#[test]
fn rotating_for_the_previous_token_would_be_noticed() {
    let world = deciding(defects::rotating_for_the_previous, racing_tabs());
    refute(&world, Law::HonestAnswered);
}

#[test]
fn not_looking_at_the_end_would_be_noticed() {
    let world = deciding(defects::blind_to_the_end, a_browser());
    refute(&world, Law::NothingAfterTheEnd);
}

#[test]
fn setting_without_comparing_the_generation_would_be_noticed() {
    let world = with(Defect::ComparesNoGeneration, racing_tabs());
    refute(&world, Law::OneSuccessor);
}

#[test]
fn setting_without_comparing_the_end_would_be_noticed() {
    let world = with(Defect::ComparesNoEnd, a_browser());
    refute(&world, Law::NothingAfterTheEnd);
}

#[test]
fn a_loser_that_answers_for_itself_would_be_noticed() {
    let world = with(Defect::LoserAnswers, racing_tabs());
    refute(&world, Law::OneToken);
}

#[test]
fn a_reuse_that_ends_nothing_would_be_noticed() {
    let world = with(Defect::ReuseEndsNothing, a_theft());
    refute(&world, Law::ReuseEnds);
}

// ------------------------------------------------------------------ what is told of it

#[test]
fn the_document_tells_every_law_in_the_words_of_the_checker() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/security/rotation.md"
    );
    let document = fs::read_to_string(file).expect("docs/security/rotation.md");
    for law in Law::ALL {
        assert!(document.contains(law.name()), "{}", law.name());
    }
}
