//! The threads that hash, and the jobs that wait for one.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::django::Argon2Memory;

/// What one hashing thread does, with the memory that it keeps from one hash to the next.
pub(super) type Job = Box<dyn FnOnce(&mut Argon2Memory) + Send>;

/// How busy the threads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolLoad {
    pub(super) busy: usize,
    pub(super) waiting: usize,
}

/// More waits than may.
pub(super) struct Full;

/// A few hashing threads. Dropping it ends them.
pub(super) struct Pool {
    queue: Arc<Queue>,
    threads: usize,
}

impl Pool {
    /// Starts the threads. They take memory at their first hash.
    pub(super) fn start(threads: usize, memory: &Argon2Memory) -> Self {
        let queue = Arc::new(Queue::default());
        let threads = threads.max(1);
        for index in 0..threads {
            let queue = Arc::clone(&queue);
            let memory = memory.empty();
            thread::Builder::new()
                .name(format!("password-{index}"))
                .spawn(move || run(&queue, memory))
                .expect("the system has room for the hashing threads at start");
        }
        Self { queue, threads }
    }

    /// How busy the threads are now.
    pub(super) fn load(&self) -> PoolLoad {
        let state = self.queue.lock();
        PoolLoad {
            busy: self.threads.saturating_sub(state.idle_workers),
            waiting: state.waiting.len(),
        }
    }

    /// Has a job done by the next thread that is free, unless `most_waiting` wait already.
    pub(super) fn push(&self, job: Job, most_waiting: usize) -> Result<(), Full> {
        let mut state = self.queue.lock();
        if state.waiting.len() >= most_waiting.saturating_add(state.idle_workers) {
            return Err(Full);
        }
        state.waiting.push_back(job);
        self.queue.arrived.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn run(queue: &Queue, mut memory: Argon2Memory) {
    while let Some(job) = queue.pop() {
        // A panic costs the one who asked an answer, not everybody a thread.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
        if outcome.is_err() {
            memory = memory.empty();
            tracing::error!(event = "hashing_panicked");
        }
    }
}

/// Jobs that wait for a thread.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    arrived: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Job>,
    idle_workers: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Jobs run outside the lock, so a panic in one leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle_workers += 1;
        let mut state = self
            .arrived
            .wait_while(state, |state| state.waiting.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.idle_workers -= 1;
        state.waiting.pop_front()
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.arrived.notify_all();
    }
}
