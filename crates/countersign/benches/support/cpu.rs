//! The time that threads have spent on a core, to the nanosecond, as Linux counts it. Ratios of it
//! hold on a busy machine too.

use std::fs;
use std::time::Duration;

/// Of all threads whose name begins so.
pub(crate) fn of_threads(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let directories = tasks.flatten().map(|task| task.path());
    directories
        .filter(|directory| {
            fs::read_to_string(directory.join("comm")).is_ok_and(|comm| comm.starts_with(name))
        })
        .filter_map(|directory| fs::read_to_string(directory.join("schedstat")).ok())
        .map(|schedstat| on_cpu(&schedstat))
        .sum()
}

/// The first number of `schedstat`.
pub(crate) fn on_cpu(schedstat: &str) -> Duration {
    let nanoseconds = schedstat.split(' ').next().unwrap_or_default();
    Duration::from_nanos(nanoseconds.parse().unwrap_or_default())
}
