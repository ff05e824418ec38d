//! The work that nobody asks for: upkeep, mail and the audit log, as long as the service runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::auth::Auth;
use tokio::sync::watch;

use crate::mail::Mailer;

/// How long after a panic the work begins again.
const PAUSE: Duration = Duration::from_mins(1);

/// Does upkeep, on a task of its own: a bug in it is not an outage.
pub(crate) async fn work(auth: Arc<Auth>) -> Infallible {
    loop {
        let auth = Arc::clone(&auth);
        let upkeep = tokio::spawn(async move { auth.run_upkeep().await });
        let mut upkeep = Aborting(upkeep);
        let Err(_panic) = (&mut upkeep.0).await;
        // Where it happened has been logged by the process's panic hook.
        tracing::error!(event = "upkeep_panicked");
        tokio::time::sleep(PAUSE).await;
    }
}

/// How long after the signal to stop the mail in hand may still take. Its claim runs out by itself.
const LAST_MAIL: Duration = Duration::from_secs(10);

/// Delivers mail until it is told to stop, on a task of its own as well.
pub(crate) async fn mail(auth: Arc<Auth>, mailer: Option<Mailer>, mut stop: watch::Receiver<bool>) {
    let Some(mailer) = mailer.map(Arc::new) else {
        return;
    };
    while !*stop.borrow() {
        let (auth, mailer, until) = (Arc::clone(&auth), Arc::clone(&mailer), stop.clone());
        let delivering = tokio::spawn(async move { auth.run_mail(&*mailer, until).await });
        let mut delivering = Aborting(delivering);
        let too_late = async {
            let _or_nobody_is_there = stop.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(LAST_MAIL).await;
        };
        let ended = tokio::select! {
            ended = &mut delivering.0 => ended,
            () = too_late => return tracing::warn!(event = "mail_left"),
        };
        let Err(_panic) = ended else { return };
        tracing::error!(event = "mail_panicked");
        let _time_or_stop = tokio::time::timeout(PAUSE, stop.wait_for(|stopping| *stopping)).await;
    }
}

/// Keeps what was gathered for the audit log until it is told to stop, and once more then.
pub(crate) async fn audit(auth: Arc<Auth>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let (auth, until) = (Arc::clone(&auth), stop.clone());
        let keeping = tokio::spawn(async move { auth.run_audit(until).await });
        let mut keeping = Aborting(keeping);
        let Err(_panic) = (&mut keeping.0).await else {
            return;
        };
        tracing::error!(event = "audit_panicked");
        let _time_or_stop = tokio::time::timeout(PAUSE, stop.wait_for(|stopping| *stopping)).await;
    }
}

/// A task that ends with whoever waits for it.
struct Aborting<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
