//! How figures are taken and printed: in rounds in which the variants take turns, and as medians of
//! what the rounds gave. Absolute numbers drift from minute to minute; the ratios of one round
//! hardly do.

use std::fs;
use std::time::Duration;

/// How much work a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// How long each variant is driven in each round.
    pub(crate) turn: Duration,
}

impl Effort {
    /// What the command line asks for: `cargo bench … -- [ROUNDS [MILLISECONDS]]`.
    ///
    /// Without `--bench`, which `cargo bench` adds and `cargo test --benches` does not, only
    /// enough to see that everything still runs.
    pub(crate) fn asked() -> Self {
        let mut effort = Self {
            rounds: 7,
            turn: Duration::from_secs(1),
        };
        if !std::env::args().any(|argument| argument == "--bench") {
            effort.rounds = 1;
            effort.turn = Duration::from_millis(20);
        }
        let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
        if let Some(rounds) = numbers.next() {
            effort.rounds = usize::try_from(rounds).unwrap_or(usize::MAX).max(1);
        }
        if let Some(milliseconds) = numbers.next() {
            effort.turn = Duration::from_millis(milliseconds.into());
        }
        effort
    }

    /// Prints what the figures below it depend on.
    pub(crate) fn announce(self, what: &str) {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().unwrap_or_default();
        println!("{what}");
        println!(
            "{} cores, {model}, Linux {}; load average at the start {load}",
            cores(),
            read("/proc/sys/kernel/osrelease").trim(),
        );
        println!("medians of {} rounds\n", self.rounds);
    }
}

/// How many cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The value in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
