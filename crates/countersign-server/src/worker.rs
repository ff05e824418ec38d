//! The work that nobody asks for: upkeep, as long as the service runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::auth::Auth;

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

/// A task that ends with whoever waits for it.
struct Aborting<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
