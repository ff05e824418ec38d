//! The log: one line per event, to standard error, pretty for people or JSON for programs.
//!
//! It holds no secret at any level: our own types redact themselves, and libraries, whose traces
//! would show headers and cookies, are never logged beyond `info`.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign_core::clock::{Clock as _, SystemClock};
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{LogFormat, LogSettings};
use crate::log_queue::LogQueue;
use crate::output::Safe;

/// The lines that are on their way to standard error.
static LINES: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// How long the end waits for somebody to read the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Dropped at the end, it waits until the last lines are written.
pub(crate) struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        if let Some(lines) = LINES.get() {
            lines.flush(LAST_LINES);
        }
    }
}

/// Changes the level of a log that is running.
pub(crate) struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl LevelHandle {
    /// Logs at this level from now on.
    pub(crate) fn set(&self, level: &str) {
        if self.0.reload(EnvFilter::new(level)).is_err() {
            tracing::error!(event = "log_level_unchanged");
        }
    }
}

/// Starts the log of this process.
pub(crate) fn start(settings: &LogSettings) -> LevelHandle {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let handle = match LogQueue::start(io::stderr()) {
        Ok(lines) => {
            let lines = LINES.get_or_init(|| lines);
            install(log(settings, colours, Arc::clone(lines)))
        }
        Err(error) => {
            let handle = install(log(settings, colours, io::stderr));
            tracing::warn!(event = "log_unqueued", %error);
            handle
        }
    };
    panic::set_hook(Box::new(tell_of_panic));
    handle
}

fn install((log, handle): (impl Subscriber + Send + Sync, LevelHandle)) -> LevelHandle {
    if tracing::subscriber::set_global_default(log).is_err() {
        crate::output::note("the log had been started before");
    }
    handle
}

fn log<W>(settings: &LogSettings, colours: bool, writer: W) -> (impl Subscriber, LevelHandle)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let (level, handle) = reload::Layer::new(EnvFilter::new(&settings.level));
    let lines = match settings.format {
        LogFormat::Pretty => pretty(colours, writer),
        LogFormat::Json => json(writer),
    };
    let lines = lines.with_filter(level.and(filter_fn(is_ours_or_quiet)));
    (
        tracing_subscriber::registry().with(lines),
        LevelHandle(handle),
    )
}

fn pretty<S, W>(colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // Fields may hold what clients sent: escaped, it cannot begin a line of its own.
    let fields = debug_fn(|writer: &mut Writer<'_>, field, value| match field.name() {
        "message" => write!(writer, "{:?}", Safe(value)),
        name => write!(writer, "{name}={:?}", Safe(value)),
    });
    tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_timer(Utc)
        .fmt_fields(tracing_subscriber::field::MakeExt::delimited(fields, " "))
        .with_writer(writer)
        .boxed()
}

fn json<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_timer(Utc)
        .with_writer(writer)
        .boxed()
}

/// Our own events at any level; those of libraries up to `info`.
fn is_ours_or_quiet(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target
        .split("::")
        .next()
        .is_some_and(|root| root.starts_with("countersign"));
    ours || *metadata.level() <= LevelFilter::INFO
}

/// UTC in RFC 3339, to the millisecond.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", SystemClock.now())
    }
}

/// One line in place of the runtime's several. The message is told only if it is fixed text: one
/// that was put together may quote a password or a token.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(tracing::field::display);
    let message = panic.payload().downcast_ref::<&'static str>().copied();
    let thread = std::thread::current();
    tracing::error!(event = "panic", location, message, thread = thread.name());
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, tell: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let settings = LogSettings {
            format,
            level: level.to_owned(),
        };
        let (log, _handle) = log(&settings, false, move || writer.clone());
        tracing::subscriber::with_default(log, tell);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const FORMATS: [LogFormat; 2] = [LogFormat::Pretty, LogFormat::Json];

    #[test]
    fn nothing_in_a_field_breaks_a_line() {
        let hostile = "ana\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2J";
        for format in FORMATS {
            let text = logged(format, "info", || {
                let span = tracing::info_span!("request", id = %hostile);
                let _entered = span.enter();
                tracing::info!(shown = %hostile, quoted = ?hostile, text = hostile, "{hostile}");
            });
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(
                text.ends_with('\n') && !text.contains(['\r', '\u{1b}']),
                "{text}"
            );
        }
    }

    #[test]
    fn a_line_says_when_and_in_which_request() {
        for format in FORMATS {
            let text = logged(format, "info", || {
                let span = tracing::info_span!("request", id = "7f3a");
                span.in_scope(|| tracing::info!(event = "login_refused", reason = "unknown_user"));
            });
            for part in ["7f3a", "event", "login_refused", "unknown_user"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            let start = text.find("20").unwrap();
            let time = &text[start..start + "2026-11-23T10:00:00.000Z".len()];
            assert!(
                time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'),
                "{time}"
            );
        }
    }

    #[test]
    fn libraries_are_not_traced() {
        for format in FORMATS {
            let text = logged(format, "trace", || {
                tracing::trace!(target: "h2::codec", "cookie: CANARY");
                tracing::debug!(target: "hyper", "cookie: CANARY");
                tracing::trace!(target: "countersign_core::auth", "ours");
                tracing::info!(target: "rustls", "theirs");
            });
            assert!(!text.contains("CANARY") && text.contains("ours") && text.contains("theirs"));
        }
    }
}
