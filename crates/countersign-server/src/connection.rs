//! Patience with a connection: clients that are slow on purpose are cut, idle ones are kept a while.
//!
//! hyper has one limit for the head of a request, and it runs while a kept-alive connection is idle
//! as well. Proxies keep idle connections for a minute, and lose a request now and then if we close
//! first. So the head's limit starts with its first byte here, and idleness has a longer one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep as HyperSleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may take over the head of a request, from its first byte.
pub(crate) const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may be idle between requests: longer than nginx' minute.
pub(crate) const IDLE: Duration = Duration::from_secs(75);
/// How long a client may refuse to take any of an answer.
const STALLED: Duration = Duration::from_secs(30);
/// What tells HTTP/2 from HTTP/1: the length of HTTP/2's preface. hyper waits for it without limit.
const OPENING_BYTES: usize = 24;

/// Whether bytes have arrived since hyper began to wait for a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals(Arc<AtomicBool>);

/// A connection that is watched for slowness.
pub(crate) struct Watched<S> {
    stream: S,
    arrivals: Arrivals,
    /// Runs until enough has been read to know the protocol.
    opening: Option<Pin<Box<Sleep>>>,
    read: usize,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S) -> Self {
        let opening = Some(Box::pin(sleep(HEAD)));
        Self {
            stream,
            arrivals: Arrivals::default(),
            opening,
            read: 0,
            stalled: None,
        }
    }

    /// The timer that hyper is to measure the heads of this connection's requests with.
    pub(crate) fn timer(&self) -> HeadTimer {
        let is_first = Arc::new(AtomicBool::new(true));
        HeadTimer {
            arrivals: self.arrivals.clone(),
            is_first,
        }
    }

    /// Fails once the client has taken nothing for too long.
    fn check_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.read = self.read.saturating_add(buffer.filled().len() - before);
            self.arrivals.0.store(true, Ordering::Relaxed);
            if self.read >= OPENING_BYTES {
                self.opening = None;
            }
            return read;
        }
        let Some(opening) = &mut self.opening else {
            return Poll::Pending;
        };
        ready!(opening.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.check_stalled(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check_stalled(context, shut)
    }
}

/// Measures the heads of a connection's requests. hyper asks for a sleep whenever it begins to wait
/// for one.
#[derive(Debug, Clone)]
pub(crate) struct HeadTimer {
    arrivals: Arrivals,
    is_first: Arc<AtomicBool>,
}

impl Timer for HeadTimer {
    fn sleep(&self, _head: Duration) -> Pin<Box<dyn HyperSleep>> {
        self.arrivals.0.store(false, Ordering::Relaxed);
        // Whoever has just connected wants something.
        let is_first = self.is_first.swap(false, Ordering::Relaxed);
        let patience = if is_first { HEAD } else { IDLE };
        Box::pin(Patience {
            arrivals: self.arrivals.clone(),
            sleep: Box::pin(sleep(patience)),
            head_began: is_first,
        })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn HyperSleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// First the patience with an idle connection, then, from the first byte on, with a head.
struct Patience {
    arrivals: Arrivals,
    sleep: Pin<Box<Sleep>>,
    head_began: bool,
}

impl HyperSleep for Patience {}

impl Future for Patience {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.head_began && self.arrivals.0.load(Ordering::Relaxed) {
            self.head_began = true;
            self.sleep = Box::pin(sleep(HEAD));
        }
        self.sleep.as_mut().poll(context)
    }
}
