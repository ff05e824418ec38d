//! `serve`: the service from its start to its stop.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::sync::Arc;

use countersign::App;
use countersign_core::auth::Auth;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{Chosen, Problems, Settings};
use crate::failure::Failure;
use crate::listener::Listener;
use crate::mail::Mailer;
use crate::open_files;
use crate::opening::{self, IfMissing};
use crate::output;
use crate::reload::Reload;
use crate::room::{Room, RoomLimits};
use crate::signals::{self, StopSignals};
use crate::telemetry::{self, LevelHandle};
use crate::tls::{Tls, TlsFiles};
use crate::worker;

use super::createsuperuser::offer_superuser;

/// Reads the settings, starts the log and the workers, one for each core, and serves.
pub(super) fn run(chosen: &Chosen) -> Result<(), Failure> {
    let settings = chosen.load()?;
    let level = telemetry::start(&settings.log);
    for warning in &settings.warnings {
        tracing::warn!(event = "setting_advised_against", "{warning}");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))?
        .block_on(serve(chosen, settings, level))
}

async fn serve(chosen: &Chosen, settings: Settings, level: LevelHandle) -> Result<(), Failure> {
    // First the sockets: whoever starts a second one by mistake changes nothing by it.
    let sockets = Sockets::open(&settings).await?;
    let room = open_room(&settings)?;
    let tls = settings.server.tls.as_ref().map(open_tls).transpose()?;
    let mailer = Mailer::new(&settings)?;
    let auth = Arc::new(opening::open(&settings, IfMissing::Create).await?);
    note_settings(&auth, &settings).await;
    let has_users = auth.has_users().await?;
    announce(&settings, &sockets, has_users, chosen);
    if !has_users && can_offer() {
        offer(&auth).await;
    }

    let mut stop_signals = StopSignals::listen().map_err(|error| no_signals(&error))?;
    let app = App::new(Arc::clone(&auth), settings.http.clone());
    let (stop, stopped) = watch::channel(false);
    let public = Listener {
        socket: sockets.public,
        router: app.router(),
        tls: tls.clone(),
        room,
    };
    let operations = Listener {
        socket: sockets.operations,
        router: app.operations_router(),
        tls: None,
        // Its own: whoever fills the other must not keep the operator from asking how it is.
        room: Room::new(RoomLimits {
            most: open_files::OPERATIONS,
            most_per_address: open_files::OPERATIONS,
            trusted_proxies: Vec::new(),
        }),
    };
    let serving = async {
        tokio::join!(
            public.serve(stopped.clone()),
            operations.serve(stopped.clone()),
            worker::mail(Arc::clone(&auth), mailer, stopped.clone()),
            worker::audit(Arc::clone(&auth), stopped.clone()),
        );
    };
    let hangup = signals::hangup().map_err(|error| no_signals(&error))?;
    let reloading = Reload {
        chosen: chosen.clone(),
        level,
        tls,
    }
    .on(hangup);
    tracing::info!(event = "started", public_url = %settings.http.public_url);
    tell_supervisor(&[NotifyState::Ready]);

    tokio::pin!(serving);
    let signal = tokio::select! {
        () = &mut serving => return Err(Failure::Failed("the listeners are gone".to_owned())),
        never = reloading => match never {},
        never = worker::work(Arc::clone(&auth)) => match never {},
        signal = stop_signals.next() => signal,
    };
    tracing::info!(event = "stopping", signal);
    tell_supervisor(&[NotifyState::Stopping]);
    auth.let_nobody_wait();
    stop.send_replace(true);
    tokio::select! {
        () = serving => {}
        signal = stop_signals.next() => tracing::warn!(event = "stopping_at_once", signal),
    }
    tracing::info!(event = "stopped");
    Ok(())
}

/// Room for the connections of clients, as many as the system lets us have open.
fn open_room(settings: &Settings) -> Result<Arc<Room>, Failure> {
    let server = &settings.server;
    let open_files = open_files::raise_limit();
    let most = open_files::for_connections(open_files, server, &settings.database)?;
    Ok(Room::new(RoomLimits {
        most,
        most_per_address: server.max_connections_per_address,
        trusted_proxies: server.trusted_proxies.clone(),
    }))
}

/// Has the audit log say with which settings the service runs. It runs all the same while the database cannot
/// be written to: who is signed in can go on.
async fn note_settings(auth: &Auth, settings: &Settings) {
    let (digest, set) = (settings.report.digest(), settings.report.names_set());
    if let Err(error) = auth.note_settings(&digest, &set).await {
        tracing::warn!(event = "settings_not_noted", cause = %error);
    }
}

/// The two listening sockets: the service manager's, if it gave any, or our own.
struct Sockets {
    public: TcpListener,
    operations: TcpListener,
    public_address: SocketAddr,
    operations_address: SocketAddr,
}

impl Sockets {
    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let mut given = ListenFd::from_env();
        let server = &settings.server;
        let (public, public_address) =
            open_socket(&mut given, 0, "server.listen", server.listen).await?;
        let (operations, operations_address) = open_socket(
            &mut given,
            1,
            "server.operations_listen",
            server.operations_listen,
        )
        .await?;
        if server.development && !public_address.ip().is_loopback() {
            let mut problems = Problems::default();
            problems.add(
                "server.public_url",
                format!(
                    "the socket that the service manager gave ({public_address}) is open to others, \
                     and plain http is for development on this machine only: listen on 127.0.0.1 \
                     there, or write an https:// origin here"
                ),
            );
            return Err(problems.into());
        }
        Ok(Self {
            public,
            operations,
            public_address,
            operations_address,
        })
    }
}

async fn open_socket(
    given: &mut ListenFd,
    index: usize,
    key: &str,
    listen: SocketAddr,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let inherited = given.take_tcp_listener(index).ok().flatten();
    let opened = match inherited {
        Some(socket) => socket
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(socket)),
        None => TcpListener::bind(listen).await,
    };
    opened
        .and_then(|socket| socket.local_addr().map(|address| (socket, address)))
        .map_err(|error| no_socket(key, listen, &error))
}

fn no_socket(key: &str, listen: SocketAddr, error: &io::Error) -> Failure {
    let option = if key == "server.listen" {
        " or --listen"
    } else {
        ""
    };
    Failure::Failed(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{listen} is in use, perhaps by another Countersign: stop what listens there, or choose \
             another port with {key}{option}"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "this user may not listen on {listen}: choose a port above 1023 with {key}{option}, or \
             have the service manager open the socket"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "{listen} is not an address of this machine: choose one that is with {key}{option}"
        ),
        _ => format!("{listen} cannot be listened on ({error}): choose another with {key}{option}"),
    })
}

fn no_signals(error: &io::Error) -> Failure {
    Failure::Failed(format!("signals cannot be received: {error}"))
}

fn open_tls(files: &TlsFiles) -> Result<Tls, Failure> {
    Tls::new(files).map_err(|refusal| {
        let mut problems = Problems::default();
        problems.add(refusal.key, refusal.message);
        problems.into()
    })
}

/// Says where everything is.
fn announce(settings: &Settings, sockets: &Sockets, has_users: bool, chosen: &Chosen) {
    let url = &settings.http.public_url;
    output::line(format_args!("Countersign {}", env!("CARGO_PKG_VERSION")));
    output::line(format_args!("  API         {url}"));
    output::line(format_args!("  API page    {url}/docs"));
    output::line(format_args!("  listens on  {}", sockets.public_address));
    output::line(format_args!(
        "  health      http://{}/healthz",
        sockets.operations_address
    ));
    if !has_users && !can_offer() {
        output::line("No user yet. This makes the first one, a superuser:");
        output::line(format_args!("  {}", chosen.command("createsuperuser")));
    }
}

fn can_offer() -> bool {
    output::can_ask() && io::stdout().is_terminal()
}

/// A service that has started goes on, whatever became of the offer.
async fn offer(auth: &Auth) {
    if let Err(failure) = offer_superuser(auth).await {
        output::note(failure);
    }
}

fn tell_supervisor(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(event = "supervisor_not_told", %error);
    }
}
