//! Throw-away PostgreSQL servers: one that all tests of a run share, and ones of a test's own.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const NEEDS: &str = "PostgreSQL's server programs (Debian's package postgresql)";

/// Where `initdb` and `postgres` are: on Debian, not on the path.
pub(crate) fn programs() -> PathBuf {
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|text| PathBuf::from(text.trim()));
    let mut debian: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    debian.sort();
    configured
        .into_iter()
        .chain(debian.into_iter().rev())
        .find(|directory| directory.join("initdb").exists())
        .unwrap_or_else(|| panic!("{NEEDS} are missing"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The number behind `id -u postgres` and `id -g postgres`.
fn number_of(option: &str) -> u32 {
    let output = Command::new("id").args([option, "postgres"]).output();
    let text = String::from_utf8(output.expect("there is `id`").stdout).expect("digits");
    text.trim().parse().expect("there is a user postgres")
}

/// A program of PostgreSQL's, which root may not run.
fn program(name: &str) -> Command {
    as_postgres(programs().join(name))
}

/// A program that root may not run.
pub(crate) fn as_postgres(path: impl AsRef<Path>) -> Command {
    let path = path.as_ref();
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ])
        .arg(path);
    command
}

/// A directory that PostgreSQL's user can use, wherever tests keep theirs.
pub(crate) fn give_to_postgres(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("ours");
    if is_root() {
        chown(directory, Some(number_of("-u")), Some(number_of("-g"))).expect("we are root");
    }
}

fn initialize(directory: &Path) {
    let output = program("initdb")
        .arg("--pgdata")
        .arg(directory.join("data"))
        .args(["--username=countersign", "--auth=trust", "--encoding=UTF8"])
        .args(["--locale=C.UTF-8", "--no-sync"])
        .current_dir("/")
        .output()
        .expect("initdb runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn start(directory: &Path, port: u16) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .expect("a log");
    let mut command = program("postgres");
    command
        .arg("-D")
        .arg(directory.join("data"))
        .arg("-k")
        .arg(directory)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "max_connections=300", "-c", "shared_buffers=32MB"])
        .args(["-c", "fsync=on"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        // An interrupt at the terminal is for the tests.
        .process_group(0);
    command.spawn().expect("postgres runs")
}

fn send(signal: &str, process: u32) {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(status.expect("there is `kill`").success());
}

/// A server of a test's own, which it may stop. Ends with it.
pub(crate) struct Server {
    directory: TempDir,
    port: u16,
    process: Option<(Child, Child)>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let mut server = Self::initialized();
        server.start();
        server
    }

    /// One that answers by TLS only, with what is written to the directory as `server.crt` and
    /// `server.key`.
    pub(crate) fn with_certificate(write: impl FnOnce(&Path)) -> Self {
        let mut server = Self::initialized();
        let directory = server.directory.path();
        write(directory);
        let key = directory.join("server.key");
        give_to_postgres(&key);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
        let shown = directory.display();
        let settings = format!(
            "ssl = on\nssl_cert_file = '{shown}/server.crt'\nssl_key_file = '{shown}/server.key'\n"
        );
        let data = server.data();
        fs::write(data.join("postgresql.auto.conf"), settings).expect("ours");
        fs::write(
            data.join("pg_hba.conf"),
            "hostssl all all 127.0.0.1/32 trust",
        )
        .expect("ours");
        server.start();
        server
    }

    pub(crate) fn certificate_directory(&self) -> &Path {
        self.directory.path()
    }

    fn initialized() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        give_to_postgres(directory.path());
        initialize(directory.path());
        Self {
            directory,
            port: free_port(),
            process: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let server = start(self.directory.path(), self.port);
        // Ends the server if this process ends without having done so.
        let guardian = Command::new("sh")
            .args(["-c", "cat; kill -QUIT $0 2> /dev/null"])
            .arg(server.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh runs");
        self.process = Some((server, guardian));
        wait_until_ready(self.port, self.directory.path());
    }

    /// As an administrator does who does not wait for sessions to end.
    pub(crate) fn stop(&mut self) {
        self.end("-INT");
    }

    /// As one who thinks it is on fire: it has to recover at the next start.
    pub(crate) fn stop_at_once(&mut self) {
        self.end("-QUIT");
    }

    /// Where its data is, and what it is configured with.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn end(&mut self, signal: &str) {
        if let Some((mut server, mut guardian)) = self.process.take() {
            send(signal, server.id());
            server.wait().expect("it was started here");
            drop(guardian.stdin.take());
            guardian.wait().expect("it was started here");
        }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// The same by its socket in the file system.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        let directory = self.directory.path().display().to_string();
        let (host, port) = (directory.replace('/', "%2F"), self.port);
        format!("postgres://countersign@{host}:{port}/{database}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("-QUIT");
    }
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://countersign@127.0.0.1:{port}/{database}")
}

fn wait_until_ready(port: u16, directory: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ready = Command::new(programs().join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
            .status();
        if ready.is_ok_and(|status| status.success()) {
            return;
        }
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "no server:\n{}", log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The server that all tests of a run share, also where each is a process: the port it listens on.
///
/// Each test holds a lock on a file. Whoever gets it for itself starts the server; a guardian stops it
/// when nobody has held the lock for a while.
pub(crate) fn shared() -> u16 {
    use std::sync::OnceLock;
    static SHARED: OnceLock<(u16, File)> = OnceLock::new();
    SHARED.get_or_init(join_shared).0
}

fn join_shared() -> (u16, File) {
    // Beside the tests' program, so that two checkouts do not meet.
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (lock, port_file) = (place.join("postgres.lock"), place.join("postgres.port"));
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock)
        .expect("a lock");
    loop {
        lock.lock_shared().expect("a lock");
        if let Some(port) = running(&port_file) {
            return (port, lock);
        }
        lock.unlock().expect("it is locked");
        if lock.try_lock().is_ok() {
            start_shared(&place, &port_file);
            lock.unlock().expect("it is locked");
        }
    }
}

/// The port in the file, if somebody listens there: the machine may have been switched off.
fn running(port_file: &Path) -> Option<u16> {
    let port = fs::read_to_string(port_file).ok()?.parse().ok()?;
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpStream::connect(address).ok().map(|_| port)
}

#[expect(
    clippy::zombie_processes,
    reason = "the server outlives this process, and the guardian ends it"
)]
fn start_shared(place: &Path, port_file: &Path) {
    if running(port_file).is_some() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory").keep();
    give_to_postgres(&directory);
    initialize(&directory);
    let port = free_port();
    let server = start(&directory, port);
    wait_until_ready(port, &directory);
    let mut file = File::create(port_file).expect("a file");
    write!(file, "{port}").expect("a file");
    let guard = "
        while sleep 2; do
            exec 9>> \"$0/postgres.lock\"
            if flock --exclusive --nonblock 9; then
                exec 9>&-; sleep 1; exec 9>> \"$0/postgres.lock\"
                if flock --exclusive --nonblock 9; then
                    rm -f \"$0/postgres.port\"
                    kill -QUIT \"$1\"
                    while kill -0 \"$1\" 2> /dev/null; do sleep 0.05; done
                    rm -rf \"$2\"
                    exit
                fi
            fi
            exec 9>&-
        done";
    Command::new("sh")
        .args(["-c", guard])
        .arg(place)
        .arg(server.id().to_string())
        .arg(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh runs");
}
