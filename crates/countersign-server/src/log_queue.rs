//! The log's way out: a queue of lines, and a thread that writes them.
//!
//! Whoever reads our standard error may stall: a collector that hangs, a full disk behind it, a terminal
//! that somebody has halted. A worker that waited for that would answer nobody. So workers put their lines
//! into a queue and go on; what finds the queue full is lost, is counted, and is told of when lines flow again.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// What may wait to be written: thousands of lines, so a second or so of a busy service.
const MOST_BYTES: usize = 1024 * 1024;

/// How long a reader that takes nothing now is left alone, where the system does not wait for it.
const PAUSE: Duration = Duration::from_millis(10);

/// Lines that wait to be written.
pub(crate) struct LogQueue {
    waiting: Mutex<Waiting>,
    /// There are lines to write.
    filled: Condvar,
    /// There are none left.
    emptied: Condvar,
    /// The thread that writes: what it has to say itself always finds room.
    writer: OnceLock<ThreadId>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    lost: u64,
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread that writes what comes.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            writer: OnceLock::new(),
        });
        let own = Arc::clone(&queue);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || own.write_for_ever(output))?;
        Ok(queue)
    }

    /// Waits until everything is written, for so long at most.
    pub(crate) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut waiting = self.waiting();
        while waiting.is_writing || !waiting.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.emptied.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        let is_full = waiting.lines.len() + line.len() > MOST_BYTES;
        if is_full && self.writer.get() != Some(&thread::current().id()) {
            waiting.lost += 1;
            return;
        }
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        self.filled.notify_one();
    }

    fn write_for_ever(&self, mut output: impl Write) {
        self.writer.get_or_init(|| thread::current().id());
        let mut batch = Vec::new();
        loop {
            let lost = self.take(&mut batch);
            write_all(&mut output, &batch);
            batch.clear();
            if lost > 0 {
                tracing::warn!(
                    event = "log_lines_lost",
                    lines = lost,
                    "whoever reads this log did not keep up"
                );
            }
            let mut waiting = self.waiting();
            waiting.is_writing = false;
            drop(waiting);
            self.emptied.notify_all();
        }
    }

    /// Waits for lines and takes them all; gives how many were lost after them.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let mut waiting = self.waiting();
        while waiting.lines.is_empty() {
            let woken = self.filled.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut waiting.lines, batch);
        waiting.is_writing = true;
        std::mem::take(&mut waiting.lost)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the log comes in one piece.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of it, however long that takes. Where nobody reads any more, it is gone.
fn write_all(output: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader who takes something whenever the test lets it.
    struct Reader {
        allowed: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _for_ever = self.allowed.recv();
            let _test_is_over = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (Arc<LogQueue>, Sender<()>, Receiver<Vec<u8>>) {
        let (allow, allowed) = channel();
        let (taken, take) = channel();
        let queue = LogQueue::start(Reader { allowed, taken }).unwrap();
        (queue, allow, take)
    }

    #[test]
    fn whoever_logs_never_waits_and_what_is_too_much_is_counted() {
        let (queue, allow, take) = stalled();
        let line = [b'x'; 1_000];
        (&*queue).write_all(&line).unwrap();
        while !queue.waiting().is_writing {
            thread::sleep(PAUSE);
        }
        // One is in the writer's hand, from which nobody takes it; the others come after it.
        let began = Instant::now();
        for _ in 0..10_000 {
            (&*queue).write_all(&line).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        let in_queue = queue.waiting().lines.len();
        let lost = usize::try_from(queue.waiting().lost).unwrap();
        assert!(in_queue <= MOST_BYTES && lost > 7_000, "{in_queue}, {lost}");
        allow.send(()).unwrap();
        allow.send(()).unwrap();
        let written = take.recv().unwrap().len() + take.recv().unwrap().len();
        assert_eq!(written / line.len() + lost, 10_001);
    }

    #[test]
    fn a_flush_waits_for_the_reader_and_not_for_ever() {
        let (queue, allow, take) = stalled();
        (&*queue).write_all(b"last words\n").unwrap();
        let began = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert!(take.try_recv().is_err());
        allow.send(()).unwrap();
        queue.flush(Duration::from_secs(20));
        assert_eq!(take.try_recv().unwrap(), b"last words\n");
    }
}
