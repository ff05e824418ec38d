//! SIGHUP: the certificate and the log level are read again. What else has changed takes a restart.

use std::convert::Infallible;

use tokio::signal::unix::Signal;

use crate::config::Chosen;
use crate::telemetry::LevelHandle;
use crate::tls::Tls;

/// What SIGHUP brings up to date.
pub(crate) struct Reload {
    pub(crate) chosen: Chosen,
    pub(crate) level: LevelHandle,
    pub(crate) tls: Option<Tls>,
}

impl Reload {
    /// Reads the files again at every signal. What was stays in force if they are refused.
    pub(crate) async fn on(self, mut hangup: Signal) -> Infallible {
        loop {
            if hangup.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            self.once();
        }
    }

    fn once(&self) {
        let settings = match self.chosen.load() {
            Ok(settings) => settings,
            Err(problems) => {
                tracing::error!(event = "reload_refused", %problems);
                return;
            }
        };
        self.level.set(&settings.log.level);
        if let (Some(tls), Some(files)) = (&self.tls, &settings.server.tls)
            && let Err(refusal) = tls.reload(files)
        {
            tracing::error!(
                event = "reload_refused",
                setting = refusal.key,
                "{}",
                refusal.message
            );
            return;
        }
        tracing::info!(event = "reloaded");
    }
}
