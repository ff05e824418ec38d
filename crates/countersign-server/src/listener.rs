//! Accepts connections and answers their requests with a router, over TLS or plain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::connection::{self, Watched};
use crate::room::{Asking, PARTING, Place, Room};
use crate::tls::Tls;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often we look whether an HTTP/2 peer is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);
/// The most that the head of a request may measure: tokens and cookies of 8 KiB each, and the rest.
const HEAD_BYTES: u32 = 64 * 1024;
/// The most requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// The most that a client may send of one body, and of all on an HTTP/2 connection, before we have looked at
/// it: no body is longer.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How long requests that are being answered may go on after the stop.
const FINISH: Duration = Duration::from_secs(10);

/// A listening socket and what answers behind it.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) router: Router,
    pub(crate) tls: Option<Tls>,
    pub(crate) room: Arc<Room>,
}

impl Listener {
    /// Serves until told to stop, then finishes what is in flight.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        let Self {
            socket,
            router,
            tls,
            room,
        } = self;
        let (closing_time, closing) = watch::channel(());
        let stopped = async {
            // The sender's end is the stop as well.
            let _stopped = stop.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stopped);
        loop {
            let next = async {
                let (stream, peer) = accept(&socket).await;
                // Without a place it is closed at once: whoever is in front of us tries elsewhere.
                let place = room.enter(peer.ip()).await?;
                Some((stream, peer, place))
            };
            let next = tokio::select! {
                biased;
                () = &mut stopped => break,
                next = next => next,
            };
            let Some((stream, peer, place)) = next else {
                continue;
            };
            let connection = Connection {
                router: router.clone(),
                peer,
                closing: closing.clone(),
                place,
            };
            tokio::spawn(connection.run(stream, tls.clone()));
        }
        drop((socket, closing));
        closing_time.send_replace(());
        if timeout(FINISH, closing_time.closed()).await.is_err() {
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
    /// Changes when the service stops; held until the connection is over.
    closing: watch::Receiver<()>,
    place: Place,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Tls>) {
        let Some(tls) = tls else {
            return self.answer(stream).await;
        };
        let handshake = timeout(HANDSHAKE, tls.acceptor().accept(stream));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.place.over() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.answer(stream).await,
            Ok(Err(error)) => tracing::debug!(event = "handshake_failed", %error),
            Err(_elapsed) => tracing::debug!(event = "handshake_timed_out"),
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            router,
            peer,
            mut closing,
            place,
        } = self;
        place.ready();
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
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES);
        let desk = place.desk();
        let service = service_fn(move |request| answer(router.clone(), peer, desk.ask(), request));
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        tokio::pin!(connection);
        let mut is_leaving = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(event = "connection_failed", %error);
                    }
                    return;
                }
                _changed = closing.changed(), if !is_leaving => {}
                () = place.over(), if !is_leaving => {
                    if place.is_unused() {
                        return;
                    }
                }
                // Whoever has nothing in flight and does not go is shown out.
                () = sleep(PARTING), if is_leaving => {
                    if !place.is_at_work() {
                        return;
                    }
                }
            }
            if !is_leaving {
                connection.as_mut().graceful_shutdown();
                is_leaving = true;
            }
        }
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    asking: Asking,
    mut request: Request<Incoming>,
) -> Result<Response<Answering>, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.oneshot(request).await?;
    Ok(response.map(|body| Answering {
        body,
        _asking: asking,
    }))
}

/// The body of an answer: with its end the request is answered.
struct Answering {
    body: Body,
    _asking: Asking,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
