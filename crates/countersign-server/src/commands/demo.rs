//! `demo`: a throw-away service with a user, and a page on another origin to play with.
//!
//! Everything is in a private temporary directory, which goes when the demo stops. The service is the
//! real one, with real settings; only its access tokens live shorter, so that one sees them replaced.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use countersign::App;
use countersign_core::auth::{Auth, NewAccount};
use countersign_core::clock::SystemRandomness;
use countersign_core::error::AuthError;
use countersign_core::password::Password;
use countersign_core::session::EndedBy;
use countersign_core::user::{Email, Username};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::Demo;
use crate::config::{Chosen, Settings};
use crate::demo::{self, Doors, Page, Setting, Stranger, Wish, Witness};
use crate::failure::Failure;
use crate::listener::Listener;
use crate::opening::{self, IfMissing};
use crate::room::{Room, RoomLimits};
use crate::signals::{self, StopSignals};
use crate::{output, telemetry, worker};

const USERNAME: &str = "ana";

const SERVICE_PORT: u16 = 8000;
const PAGE_PORT: u16 = 3000;
const STRANGER_PORT: u16 = 3666;

/// At each door, for a browser or two.
const CONNECTIONS: usize = 256;

/// Writes the page's files, or runs the demo until it is told to stop.
pub(super) fn run(chosen: &Chosen, options: &Demo) -> Result<(), Failure> {
    if let Some(directory) = &options.write {
        return write(directory);
    }
    if chosen.file.is_some() || !chosen.overrides.is_empty() {
        let message = "the demo has settings and a database of its own, which it throws away: leave \
                       --config and --database out";
        return Err(Failure::WrongUse(message.to_owned()));
    }
    let wish = Wishes::of(options)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))?
        .block_on(show(wish))
}

fn write(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    let written = demo::write_page(directory).map_err(|error| {
        Failure::Failed(match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "there are files of these names in {shown} already, and nothing is overwritten: name \
                 a new directory"
            ),
            _ => format!("the files cannot be written to {shown}: {error}"),
        })
    })?;
    output::line(format_args!("Written to {shown}: {}", written.join(", ")));
    output::line(
        "Run `countersign serve` beside it, and serve the files on http://localhost:3000,",
    );
    output::line(format_args!(
        "for example: python3 -m http.server 3000 --bind 127.0.0.1 --directory {shown}"
    ));
    Ok(())
}

/// Which ports are hoped for.
#[derive(Debug, Clone, Copy)]
struct Wishes {
    service: Wish,
    page: Wish,
}

impl Wishes {
    fn of(options: &Demo) -> Result<Self, Failure> {
        let service = match options.listen {
            None => Wish::From(SERVICE_PORT),
            Some(address) if address.ip() == Ipv4Addr::LOCALHOST => Wish::Exactly(address.port()),
            Some(address) => return Err(not_here(address)),
        };
        Ok(Self {
            service,
            page: options
                .page_port
                .map_or(Wish::From(PAGE_PORT), Wish::Exactly),
        })
    }
}

fn not_here(address: SocketAddr) -> Failure {
    Failure::WrongUse(format!(
        "the demo shows its password to whoever asks, so it is for this machine alone, and its page \
         and its service share the name localhost: write --listen 127.0.0.1:{}",
        address.port()
    ))
}

async fn show(wishes: Wishes) -> Result<(), Failure> {
    let mut stop_signals = StopSignals::listen().map_err(|error| no_signals(&error))?;
    let mut hangup = signals::hangup().map_err(|error| no_signals(&error))?;
    let service = open("the service", wishes.service, "--listen").await?;
    let page = open("the page", wishes.page, "--page-port").await?;
    let strange = open("the stranger", Wish::From(STRANGER_PORT), "").await?;

    let directory = private_directory()?;
    let settings = settings(directory.path(), &service, &page)?;
    telemetry::start(&settings.log);
    let auth = Arc::new(opening::open(&settings, IfMissing::Create).await?);
    let password = demo::throw_away_password(&SystemRandomness);
    add_user(&auth, &password).await?;

    let stranger = Stranger {
        port: strange.port,
        api: service.origin(),
        page: page.origin(),
    };
    let shown = Page {
        origin: page.origin(),
        port: page.port,
        api: service.origin(),
        strangers: stranger.origins(),
        username: USERNAME.to_owned(),
        password,
    };
    announce(&shown, &service, &page, wishes);
    let witness = Witness::default();
    let look_on = middleware::from_fn_with_state(witness.clone(), demo::look_on);
    let api = App::new(Arc::clone(&auth), settings.http.clone()).router();
    let (stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    for (doors, router) in [
        (service, api.layer(look_on)),
        (page, shown.router(witness)),
        (strange, stranger.router()),
    ] {
        serve(doors, &router, &stopped, &mut serving);
    }

    tokio::select! {
        never = worker::work(Arc::clone(&auth)) => match never {},
        _ = stop_signals.next() => {}
        _ = hangup.recv() => {}
    }
    auth.let_nobody_wait();
    stop.send_replace(true);
    tokio::select! {
        () = async { while serving.join_next().await.is_some() {} } => {}
        _ = stop_signals.next() => serving.shutdown().await,
    }
    // The database's threads may still write into the directory that goes.
    drop(auth);
    remove(directory)
}

fn no_signals(error: &io::Error) -> Failure {
    Failure::Failed(format!("signals cannot be received: {error}"))
}

async fn open(what: &str, wish: Wish, option: &str) -> Result<Doors, Failure> {
    Doors::open(wish).await.map_err(|error| {
        let (Wish::Exactly(port) | Wish::From(port)) = wish;
        let remedy = match option {
            "" => "free some".to_owned(),
            option => format!("choose another port with {option}, or leave that out and the next free one is taken"),
        };
        Failure::Failed(match (error.kind(), wish) {
            (io::ErrorKind::AddrInUse, Wish::Exactly(_)) => {
                format!("port {port} of localhost, for {what}, is in use: {remedy}")
            }
            (io::ErrorKind::AddrInUse, Wish::From(_)) => {
                format!("port {port} of localhost, for {what}, is in use, and so are the fifty after it")
            }
            _ => format!("port {port} of localhost, for {what}, cannot be listened on ({error}): {remedy}"),
        })
    })
}

/// Nobody else on this machine may look into it.
fn private_directory() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("countersign-demo-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| {
            let place = std::env::temp_dir();
            Failure::Failed(format!(
                "no temporary directory can be made in {} ({error}): name another in TMPDIR",
                place.display()
            ))
        })
}

fn settings(directory: &Path, service: &Doors, page: &Doors) -> Result<Settings, Failure> {
    let file = directory.join("countersign.toml");
    let text = Setting {
        directory,
        port: service.port,
        api: &service.origin(),
        page: &page.origin(),
    }
    .to_toml();
    std::fs::write(&file, text).map_err(|error| {
        Failure::Failed(format!("{} cannot be written: {error}", file.display()))
    })?;
    Ok(Settings::load_file_alone(file)?)
}

async fn add_user(auth: &Auth, password: &str) -> Result<(), Failure> {
    let account = NewAccount {
        username: Username::parse(USERNAME).map_err(AuthError::from)?,
        email: Email::parse("ana@example.org").map_err(AuthError::from)?,
        password: Some(Password::new(password.to_owned()).map_err(AuthError::from)?),
        is_staff: false,
        is_superuser: false,
    };
    auth.create_user(account, EndedBy::CommandLine).await?;
    Ok(())
}

fn announce(shown: &Page, service: &Doors, page: &Doors, wishes: Wishes) {
    output::line(format_args!(
        "Countersign {}, a demo",
        env!("CARGO_PKG_VERSION")
    ));
    output::line(format_args!(
        "  open        {}{}",
        shown.origin,
        moved(wishes.page, page)
    ));
    output::line(format_args!(
        "  sign in as  {}, with {}",
        shown.username, shown.password
    ));
    output::line(format_args!(
        "  service     {}{}",
        shown.api,
        moved(wishes.service, service)
    ));
    output::line(format_args!("  API page    {}/docs", shown.api));
    output::line(format_args!("  stranger    {}", shown.strangers[0]));
    output::line("It forgets everything when you stop it, with Ctrl-C.");
}

fn moved(wish: Wish, doors: &Doors) -> String {
    match wish {
        Wish::From(port) if port != doors.port => format!("  (port {port} is in use)"),
        Wish::From(_) | Wish::Exactly(_) => String::new(),
    }
}

fn serve(
    doors: Doors,
    router: &Router,
    stopped: &watch::Receiver<bool>,
    serving: &mut JoinSet<()>,
) {
    for socket in doors.sockets {
        let listener = Listener {
            socket,
            router: router.clone(),
            tls: None,
            room: Room::new(RoomLimits {
                most: CONNECTIONS,
                most_per_address: CONNECTIONS,
                trusted_proxies: Vec::new(),
            }),
        };
        serving.spawn(listener.serve(stopped.clone()));
    }
}

fn remove(directory: TempDir) -> Result<(), Failure> {
    let path = directory.path().to_owned();
    directory.close().map_err(|error| {
        Failure::Failed(format!(
            "{} cannot be removed ({error}): do so by hand",
            path.display()
        ))
    })
}
