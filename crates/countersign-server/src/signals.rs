//! SIGTERM and SIGINT stop the service, SIGHUP has it read its files again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What stops the service.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and gives its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What has the service read its files again.
pub(crate) fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
