//! Chance that can be had again.

use std::env;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::thread;
use std::time::Duration;

/// SplitMix64.
pub(crate) struct Chance(u64);

impl Chance {
    /// What chances are made of: another one each time, or the one that is asked for. Prints how to.
    pub(crate) fn seed() -> u64 {
        let seed = match env::var("COUNTERSIGN_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => RandomState::new().build_hasher().finish(),
        };
        println!("again with the same chances: COUNTERSIGN_TEST_SEED={seed}");
        seed
    }

    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Chance for somebody else.
    pub(crate) fn another(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub(crate) fn wait_at_most(&mut self, microseconds: u64) {
        thread::sleep(Duration::from_micros(self.below(microseconds)));
    }
}
