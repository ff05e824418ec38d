//! Accepts connections and answers their requests with a router, over TLS or plain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::connection::{self, Watched};
use crate::tls::Tls;

/// The most connections at a time; further ones wait in the system's queue.
const MOST_CONNECTIONS: usize = 8_192;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often we look whether an HTTP/2 peer is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);
/// The most that the head of a request may measure: tokens and cookies of 8 KiB each, and the rest.
const HEAD_BYTES: u32 = 64 * 1024;
/// The most requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// How long requests that are being answered may go on after the stop.
const FINISH: Duration = Duration::from_secs(10);

/// A listening socket and what answers behind it.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) router: Router,
    pub(crate) tls: Option<Tls>,
}

impl Listener {
    /// Serves until told to stop, then finishes what is in flight.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        let Self {
            socket,
            router,
            tls,
        } = self;
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let stopped = async {
            // The sender's end is the stop as well.
            let _stopped = stop.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stopped);
        loop {
            let next = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                (permit, accept(&socket).await)
            };
            let (permit, (stream, peer)) = tokio::select! {
                biased;
                () = &mut stopped => break,
                next = next => next,
            };
            let connection = Connection {
                router: router.clone(),
                peer,
                watcher: graceful.watcher(),
                _permit: permit,
            };
            tokio::spawn(connection.run(stream, tls.clone()));
        }
        drop(socket);
        if timeout(FINISH, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                event = "requests_cut_off",
                "stopped with requests unfinished"
            );
        }
    }
}

/// Waits for the next connection, however often the system says no.
async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(event = "nodelay_refused", %error);
                }
                return (stream, peer);
            }
            Err(error) if is_the_clients_doing(&error) => {}
            Err(error) => {
                // Out of file descriptors, mostly: some will be free again.
                tracing::error!(event = "accept_failed", %error);
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

fn is_the_clients_doing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// One client's connection.
struct Connection {
    router: Router,
    peer: SocketAddr,
    watcher: Watcher,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Tls>) {
        let Some(tls) = tls else {
            return self.answer(stream).await;
        };
        match timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => self.answer(stream).await,
            Ok(Err(error)) => tracing::debug!(event = "handshake_failed", %error),
            Err(_elapsed) => tracing::debug!(event = "handshake_timed_out"),
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            router,
            peer,
            watcher,
            _permit,
        } = self;
        let stream = Watched::new(stream);
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(stream.timer())
            .header_read_timeout(connection::HEAD)
            .max_buf_size(HEAD_BYTES as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD_BYTES);
        let service = service_fn(move |request| answer(router.clone(), peer, request));
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(event = "connection_failed", %error);
        }
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}
