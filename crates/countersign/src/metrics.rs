//! What is counted and measured, in Prometheus' text format 0.0.4.
//!
//! Events are counted where they are told ([`countersign_core::audit`]); here are requests, and the page. On a
//! request's way are two looks at the clock, one look-up and two additions.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use countersign_core::audit::{event_counts, lost_entries};
use countersign_core::clock::{Clock as _, SystemClock};
use countersign_core::mail::MailWaiting;
use http::{Method, StatusCode};
use jiff::Timestamp;

use crate::state::{AppState, WAITING_PLACES};

/// Upper bounds of a request's duration in seconds: from an answer out of memory to the timeout.
const BOUNDS: [(f64, &str); 12] = [
    (0.0005, "0.0005"),
    (0.001, "0.001"),
    (0.0025, "0.0025"),
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (1.0, "1"),
    (5.0, "5"),
    (30.0, "30"),
];

/// The methods that are told apart; any other is `other`.
const METHODS: [(Method, &str); 7] = [
    (Method::GET, "GET"),
    (Method::HEAD, "HEAD"),
    (Method::POST, "POST"),
    (Method::PUT, "PUT"),
    (Method::PATCH, "PATCH"),
    (Method::DELETE, "DELETE"),
    (Method::OPTIONS, "OPTIONS"),
];
const OTHER: &str = "other";

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The route of a request that none was found for.
const NO_ROUTE: &str = "none";

/// What has been answered, and how long it took.
#[derive(Debug)]
pub(crate) struct Requests {
    /// By the route's template, of which there are as many as routes.
    routes: RwLock<HashMap<String, Arc<Route>>>,
    started_at: Timestamp,
}

/// A place for each method and class.
#[derive(Debug, Default)]
struct Route([[OnceLock<Box<Durations>>; CLASSES.len()]; METHODS.len() + 1]);

/// Of answers that are counted together.
#[derive(Debug, Default)]
struct Durations {
    /// How many took no longer than each bound and longer than the one before; the last is without bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            routes: RwLock::default(),
            started_at: SystemClock.now(),
        }
    }

    /// Notes an answer.
    pub(crate) fn note(
        &self,
        route: Option<&str>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let method = METHODS.iter().position(|(known, _)| known == method);
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        let route = self.route(route.unwrap_or(NO_ROUTE));
        let place = &route.0[method.unwrap_or(METHODS.len())][class.min(CLASSES.len() - 1)];
        place.get_or_init(Box::default).note(took);
    }

    fn route(&self, template: &str) -> Arc<Route> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(template) {
            return Arc::clone(route);
        }
        drop(routes);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry(template.to_owned()).or_default())
    }

    fn write(&self, page: &mut Page) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = routes.iter().collect();
        sorted.sort_by_key(|(template, _)| *template);
        for (template, route) in sorted {
            let methods = METHODS.iter().map(|(_, name)| *name).chain([OTHER]);
            for (method, places) in methods.zip(&route.0) {
                for (class, place) in CLASSES.iter().zip(places) {
                    if let Some(durations) = place.get() {
                        let labels = [
                            ("route", &**template),
                            ("method", method),
                            ("status", class),
                        ];
                        durations.write(page, &labels);
                    }
                }
            }
        }
    }
}

impl Durations {
    fn note(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|(bound, _)| seconds <= *bound);
        self.counts[bucket.unwrap_or(BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    fn write(&self, page: &mut Page, labels: &[(&str, &str)]) {
        let bounds = BOUNDS.iter().map(|(_, name)| *name).chain(["+Inf"]);
        let mut total = 0;
        for (bound, count) in bounds.zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let labels = [labels, &[("le", bound)]].concat();
            page.sample("_bucket", &labels, total);
        }
        let sum = Duration::from_micros(self.microseconds.load(Ordering::Relaxed));
        page.sample("_sum", labels, sum.as_secs_f64());
        page.sample("_count", labels, total);
    }
}

/// The page as it is written.
#[derive(Default)]
struct Page {
    text: String,
    metric: &'static str,
}

impl Page {
    /// Begins a metric.
    fn metric(&mut self, name: &'static str, kind: &str, help: &str) {
        self.metric = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// A value of the metric that was begun.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let metric = self.metric;
        if labels.is_empty() {
            return self.line(format_args!("{metric}{suffix} {value}"));
        }
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = labels.join(",");
        self.line(format_args!("{metric}{suffix}{{{labels}}} {value}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        let _a_string_takes_all = writeln!(self.text, "{line}");
    }
}

/// A label's value, as the format writes it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Everything that is counted and measured, as of now.
pub(crate) fn page(state: &AppState) -> String {
    let mut page = Page::default();
    let load = state.auth.load();

    page.metric(
        "countersign_events_total",
        "counter",
        "What happened, by event and, where there is one, reason, limit or state.",
    );
    for (event, kind, count) in event_counts() {
        page.sample("", &[("event", event), ("reason", kind)], count);
    }
    page.metric(
        "countersign_http_request_duration_seconds",
        "histogram",
        "From a request's head to its answer, by route, method and class of status.",
    );
    state.requests.write(&mut page);
    page.metric(
        "countersign_hashing_threads",
        "gauge",
        "Threads that hash passwords.",
    );
    page.sample("", &[], load.hashing_threads);
    page.metric(
        "countersign_hashing_busy_threads",
        "gauge",
        "Threads that hash a password now.",
    );
    page.sample("", &[], load.hashing_busy);
    page.metric(
        "countersign_hashing_waiting",
        "gauge",
        "Passwords that wait for a thread.",
    );
    page.sample("", &[], load.hashing_waiting);
    page.metric(
        "countersign_changes_heard",
        "gauge",
        "1 while what other processes change is heard of, or else 0: then each request asks the database.",
    );
    page.sample("", &[], u8::from(load.hears_changes));
    page.metric(
        "countersign_changes_silent_seconds",
        "gauge",
        "Since the database last said that all changes have been told; 0 where nobody else changes it.",
    );
    page.sample("", &[], load.silent_for.as_secs_f64());
    page.metric(
        "countersign_throttle_refusals_remembered",
        "gauge",
        "Refused attempts that are remembered, so that the database is not asked again.",
    );
    page.sample("", &[], load.refusals_remembered);
    page.metric(
        "countersign_mail_waiting",
        "gauge",
        "Mails that wait, by whether one was tried; of processes that deliver mail.",
    );
    if let Some(MailWaiting { waiting, tried }) = load.mail {
        let untried = waiting.saturating_sub(tried);
        page.sample("", &[("tried", "no")], untried);
        page.sample("", &[("tried", "yes")], tried);
    }
    page.metric(
        "countersign_revocation_followers",
        "gauge",
        "Resource servers that wait for the revocation feed's next change.",
    );
    let free = state.waiting.available_permits();
    page.sample("", &[], WAITING_PLACES.saturating_sub(free));
    page.metric(
        "countersign_audit_lost_total",
        "counter",
        "Cheap refusals that were counted and could not be kept in the audit log.",
    );
    page.sample("", &[], lost_entries());
    page.metric(
        "countersign_build_info",
        "gauge",
        "1, with the version as a label.",
    );
    page.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.metric(
        "process_start_time_seconds",
        "gauge",
        "When the process started, in seconds since 1970.",
    );
    let started = Duration::try_from(state.requests.started_at.as_duration());
    page.sample("", &[], started.unwrap_or_default().as_secs_f64());
    page.metric(
        "process_resident_memory_bytes",
        "gauge",
        "Memory of the process that is in RAM; only on Linux.",
    );
    if let Some(bytes) = resident_memory() {
        page.sample("", &[], bytes);
    }
    page.text
}

/// As Linux tells it.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_up_to_each_bound_that_it_keeps() {
        let requests = Requests::new();
        for milliseconds in [1, 2, 60_000] {
            let took = Duration::from_millis(milliseconds);
            requests.note(Some("/a\"b\\{id}"), &Method::GET, StatusCode::OK, took);
        }
        let trace = &Method::TRACE;
        requests.note(None, trace, StatusCode::NOT_FOUND, Duration::ZERO);
        let mut page = Page {
            metric: "seconds",
            ..Page::default()
        };
        requests.write(&mut page);
        let labels = r#"route="/a\"b\\{id}",method="GET",status="2xx""#;
        for line in [
            format!("seconds_bucket{{{labels},le=\"0.0005\"}} 0"),
            format!("seconds_bucket{{{labels},le=\"0.001\"}} 1"),
            format!("seconds_bucket{{{labels},le=\"30\"}} 2"),
            format!("seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("seconds_sum{{{labels}}} 60.003"),
            format!("seconds_count{{{labels}}} 3"),
            r#"seconds_count{route="none",method="other",status="4xx"} 1"#.to_owned(),
        ] {
            assert!(
                page.text.lines().any(|told| told == line),
                "{line}: {}",
                page.text
            );
        }
    }
}
