//! Requests that come at once, each on a connection of its own.

use std::sync::Barrier;
use std::thread;

use serde_json::Value;

use crate::harness::{Line, Place, REFRESH, SignedIn};

/// How many tabs wake at the same time.
const TABS: usize = 64;

const ROUNDS: u64 = 3;

/// They all show the refresh token that `ana` holds, and this is what each is given.
fn wake_together(place: &Place, ana: &SignedIn) -> [SignedIn; TABS] {
    let lines = [(); TABS].map(|()| Line::connect(place.port).unwrap());
    let all_are_ready = Barrier::new(TABS);
    thread::scope(|scope| {
        let tabs = lines.map(|mut line| {
            let all_are_ready = &all_are_ready;
            scope.spawn(move || {
                all_are_ready.wait();
                let reply = line.ask(REFRESH, &ana.cookies(), "").unwrap();
                SignedIn::from_reply(&reply)
            })
        });
        tabs.map(|tab| tab.join().unwrap())
    })
}

#[test]
fn sixty_four_tabs_that_wake_together_have_one_successor_and_an_access_token_each() {
    let place = Place::new();
    place.add_user("ana");
    let _service = place.serve();
    let mut ana = SignedIn::new(place.port, "ana");
    for generation in 1..=ROUNDS {
        let tabs = wake_together(&place, &ana);
        let [first, ..] = &tabs;
        assert_ne!(first.cookie, ana.cookie);
        for tab in &tabs {
            assert_eq!(tab.session, ana.session);
            assert_eq!(tab.cookie, first.cookie, "one successor");
            assert_eq!(tab.user(place.port).status, 200);
        }
        let mut access: Vec<_> = tabs.iter().map(|tab| &tab.access).collect();
        access.sort_unstable();
        access.dedup();
        assert_eq!(access.len(), TABS);

        let listed = place.done(&["session", "list", "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(listed[0]["generation"], generation);
        assert_eq!(listed[0]["end"], Value::Null);
        ana = first.clone();
    }
}
