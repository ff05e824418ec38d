//! The program as its users meet it: how soon it answers, what memory it takes, how large it is.
//!
//! `cargo bench -p countersign-server --bench process` builds the release binary and starts it in an
//! empty directory and then again in the same one. The clock runs from before the process is made
//! until the answer to `GET /users/csrf` has been read; the connection is tried all the time.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin shall stop"
)]

#[path = "../../countersign/benches/support/figures.rs"]
mod figures;
#[path = "../../countersign/benches/support/load.rs"]
mod load;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::figures::{Effort, median};
use crate::load::{Answer, Caller, Conversation, drive};

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");

/// How long the program is left alone before its memory is looked at.
const REST: Duration = Duration::from_millis(500);

fn main() {
    let effort = Effort::asked();
    effort.announce("countersign serve, SQLite, logs to /dev/null");
    let (mut first, mut again, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let running = Running::start(directory.path());
        first.push(milliseconds(running.answered_after));
        running.stop();

        let running = Running::start(directory.path());
        again.push(milliseconds(running.answered_after));
        thread::sleep(REST);
        resident.push(running.resident_mib());
        running.stop();
    }
    println!(
        "first start, to the first answer:           {:>6.1} ms",
        median(first)
    );
    println!(
        "start on a database, to the first answer:   {:>6.1} ms",
        median(again)
    );
    println!(
        "resident memory, idle:                      {:>6.1} MiB",
        median(resident)
    );
    let bytes = fs::metadata(PROGRAM).unwrap().len();
    println!(
        "size of the program:                        {:>6.1} MiB",
        mib(bytes / 1024)
    );
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap()) / 1024.0
}

/// The program, running.
struct Running {
    child: Child,
    answered_after: Duration,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let (public, operations) = (free_address(), free_address());
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg("--listen").arg(public.to_string());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COUNTERSIGN_") {
                command.env_remove(name);
            }
        }
        command
            .env(
                "COUNTERSIGN_SERVER__OPERATIONS_LISTEN",
                operations.to_string(),
            )
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        while TcpStream::connect(public).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the program ended: {status}; look at it with `{PROGRAM} serve`");
            }
            thread::sleep(Duration::from_micros(100));
        }
        let mut caller = [Caller::connect(public, Visit::to(public), true)];
        drive(&mut caller, Duration::ZERO);
        Self {
            child,
            answered_after: start.elapsed(),
        }
    }

    fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        mib(line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap())
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

/// An address that nobody listened on a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Somebody without a cookie.
struct Visit(String);

impl Visit {
    fn to(address: SocketAddr) -> Self {
        Self(format!(
            "GET /users/csrf HTTP/1.1\r\nhost: {address}\r\n\r\n"
        ))
    }
}

impl Conversation for Visit {
    fn request(&mut self) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
    }
}
