//! The change feed: what processes that keep a copy must know.
//!
//! A store tells its watchers of a transition *before* it answers the transition: whoever has been told
//! that a session ended finds it refused at the next request. What other processes change is told as
//! soon as the store hears of it, and when it hears of nothing, that is told too.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Instant;

use crate::session::EndedSession;
use crate::user::UserId;

/// Something that processes which keep a copy must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A session ended.
    SessionEnded(EndedSession),
    /// A user was changed or deleted.
    UserChanged(UserId),
    /// Users may have been changed by someone who does not say which: another program on the same
    /// tables.
    UsersChanged,
    /// The key ring was changed.
    KeysChanged,
    /// Changes were lost, or are of a kind unknown here: read the store anew.
    Everything,
    /// What others change is not heard of from now on: ask the store.
    Unheard,
    /// What others change is heard of again: read the store anew.
    HeardAgain,
    /// All that others changed until then has been told. A store that once said so says so many times a
    /// second: who has not heard it for a while stood still, or the store does. It is the time at which
    /// the store began to look, and not at which it says so: in between, too, one may stand still.
    Listening(Instant),
}

/// Someone who keeps a copy.
pub trait Watcher: Send + Sync + 'static {
    /// Hears of a change. Called by the thread that made it, so it must be quick and not call back.
    fn hear(&self, change: Change);
}

/// The watchers of a store, for those who write stores.
#[derive(Default)]
pub struct Watchers(RwLock<Watching>);

#[derive(Default)]
struct Watching {
    watchers: Vec<Weak<dyn Watcher>>,
    /// Whether [`Change::Unheard`] was told last of that kind.
    unheard: bool,
}

impl Watchers {
    /// Adds one, who is told until it is dropped; and at once, if changes of others are not heard of.
    pub fn add(&self, watcher: &Arc<dyn Watcher>) {
        let mut watching = self.0.write().unwrap_or_else(PoisonError::into_inner);
        watching
            .watchers
            .retain(|watcher| watcher.strong_count() > 0);
        watching.watchers.push(Arc::downgrade(watcher));
        if watching.unheard {
            watcher.hear(Change::Unheard);
        }
    }

    /// Tells all of them.
    pub fn tell(&self, change: Change) {
        if matches!(change, Change::Unheard | Change::HeardAgain) {
            let mut watching = self.0.write().unwrap_or_else(PoisonError::into_inner);
            watching.unheard = change == Change::Unheard;
            watching.tell(change);
        } else {
            let watching = self.0.read().unwrap_or_else(PoisonError::into_inner);
            watching.tell(change);
        }
    }
}

impl Watching {
    fn tell(&self, change: Change) {
        for watcher in self.watchers.iter().filter_map(Weak::upgrade) {
            // A bug of one watcher is not to keep the others from hearing, nor the store from going on.
            let told = panic::catch_unwind(AssertUnwindSafe(|| watcher.hear(change)));
            if told.is_err() {
                tracing::error!(event = "watcher_panicked");
            }
        }
    }
}

impl std::fmt::Debug for Watchers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watchers").finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "testing"))]
pub use testing::Listener;

#[cfg(any(test, feature = "testing"))]
mod testing {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::{Change, Watcher, Watchers};
    use crate::store::Store;

    /// A watcher that writes down what it hears, for a test to read; not [`Change::Listening`].
    pub struct Listener {
        heard: mpsc::UnboundedReceiver<Change>,
        watcher: Arc<dyn Watcher>,
    }

    struct Notebook(mpsc::UnboundedSender<Change>);

    impl Watcher for Notebook {
        fn hear(&self, change: Change) {
            if matches!(change, Change::Listening(_)) {
                return;
            }
            // The test may have read enough.
            let _ = self.0.send(change);
        }
    }

    impl Listener {
        /// Listens to a store from now on.
        pub fn of(store: &dyn Store) -> Self {
            let listener = Self::new();
            store.watch(&listener.watcher);
            listener
        }

        /// Listens to what a part of a store tells from now on.
        pub fn among(watchers: &Watchers) -> Self {
            let listener = Self::new();
            watchers.add(&listener.watcher);
            listener
        }

        fn new() -> Self {
            let (notes, heard) = mpsc::unbounded_channel();
            Self {
                heard,
                watcher: Arc::new(Notebook(notes)),
            }
        }

        /// What has been heard and not been read yet.
        pub fn heard(&mut self) -> Vec<Change> {
            std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
        }

        /// The next change; `None` if there is none in time.
        pub async fn next(&mut self, within: Duration) -> Option<Change> {
            tokio::time::timeout(within, self.heard.recv()).await.ok()?
        }
    }
}
