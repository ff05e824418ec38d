//! Point reads, inline: a read of a few microseconds costs less than handing it to another thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use countersign_core::error::StoreError;
use rusqlite::Connection;

use super::failure::Failure;
use super::file::{Attachment, DatabaseFile, Role};

/// A few read-only connections, each opened when it is first needed.
#[derive(Debug)]
pub(super) struct Readers {
    file: Arc<DatabaseFile>,
    slots: Box<[Mutex<Option<Attachment>>]>,
}

impl Readers {
    pub(super) fn new(file: Arc<DatabaseFile>, count: usize) -> Self {
        Self {
            file,
            slots: (0..count.max(1)).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Reads on the calling thread.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut slot = self.slot();
        // Of an earlier epoch: it holds a file that is not there any more.
        if slot
            .as_ref()
            .is_some_and(|attachment| attachment.epoch != self.file.epoch())
        {
            *slot = None;
        }
        let attachment = match &mut *slot {
            Some(attachment) => attachment,
            empty => empty.insert(self.file.attach(Role::Reader)?),
        };
        read(&attachment.connection).map_err(|failure| {
            if !failure.spares_the_connection() {
                *slot = None;
            }
            failure.into()
        })
    }

    /// Lets go of every connection that nobody is reading on.
    pub(super) fn release(&self) {
        for slot in &self.slots {
            if let Ok(mut slot) = slot.try_lock() {
                *slot = None;
            }
        }
    }

    /// The connection of the calling thread, or another if that is in use.
    fn slot(&self) -> MutexGuard<'_, Option<Attachment>> {
        let own = THREAD_NUMBER.with(|number| number % self.slots.len());
        let (before, from_own) = self.slots.split_at(own);
        for slot in from_own.iter().chain(before) {
            match slot.try_lock() {
                Ok(slot) => return slot,
                Err(TryLockError::Poisoned(poisoned)) => return emptied(poisoned),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.slots[own].lock().unwrap_or_else(emptied)
    }
}

/// After a panic in the middle of a read, a new connection.
fn emptied(
    poisoned: PoisonError<MutexGuard<'_, Option<Attachment>>>,
) -> MutexGuard<'_, Option<Attachment>> {
    let mut slot = poisoned.into_inner();
    *slot = None;
    slot
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD_NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}
