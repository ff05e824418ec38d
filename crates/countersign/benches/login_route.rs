//! `POST /users/login` against the bare Argon2id hash with memory that is kept.
//!
//! `cargo bench -p countersign --bench login_route`. The server and the hashing pool have as many
//! threads as there are cores; the load generator, our own and of one thread (see
//! `support/load.rs`), sleeps most of the time. CPU time is that of the server's, the hashing and
//! the writing threads.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin shall stop"
)]

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/figures.rs"]
mod figures;
#[path = "support/load.rs"]
mod load;
#[path = "support/service.rs"]
mod service;

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use argon2::{Argon2, Block, Params, Version};
use countersign::core::auth::{AuthSettings, Grant};
use serde_json::json;

use crate::figures::{Effort, cores, median};
use crate::load::{Answer, Caller, Conversation, drive};
use crate::service::{Disk, PASSWORD, SERVER_THREADS, Server, Service, runtime};

/// The threads that work at a login: the server's, those that hash, and the one that writes.
const WORKING_THREADS: [&str; 3] = [SERVER_THREADS, "password-", "countersign-sql"];

/// What OWASP recommends and the service uses: 19 MiB, two passes, one lane.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

fn main() {
    let effort = Effort::asked();
    effort.announce(&format!(
        "POST /users/login, SQLite, Argon2id m=19456 t=2 p=1, {} hashing threads; load generator: \
         our own, one thread",
        cores()
    ));
    let own = runtime(1);
    let hashing = AuthSettings::default().hashing;
    service::log();
    let disk = Disk::new();
    let service = own.block_on(Service::start(disk.store(), hashing, 1));
    let server = Server::start(service.router.clone(), cores());
    let connect = |number| -> Vec<_> {
        let callers = (0..number).map(|_| Caller::connect(server.address, Logins::default(), true));
        callers.collect()
    };
    let mut one = connect(1);
    // So many that no hashing thread ever waits for the next.
    let mut many = connect(3 * cores());
    let reader = Reader::new(server.address, &own.block_on(service.sign_in(0)));

    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let turn = effort.turn;
        let quiet = reader.latencies_while(|| thread::sleep(turn));
        let mut per_second_with_reader = 0.0;
        let busy = reader.latencies_while(|| per_second_with_reader = drive(&mut many, turn));
        rounds.push(Round {
            bare: [bare(1, turn), bare(cores(), turn)],
            route: [logins(&mut one, turn), logins(&mut many, turn)],
            per_second_with_reader,
            quiet,
            busy,
        });
    }
    print(&rounds);
}

/// Operations per second, and the CPU time of one in milliseconds.
#[derive(Clone, Copy)]
struct Rate {
    per_second: f64,
    cpu: f64,
}

struct Round {
    /// Bare hashes: on one thread, on all cores.
    bare: [Rate; 2],
    /// Logins: on one connection, on more than enough.
    route: [Rate; 2],
    per_second_with_reader: f64,
    quiet: Latencies,
    busy: Latencies,
}

/// Hashes on so many threads at once, each with memory of its own that it keeps.
fn bare(threads: usize, turn: Duration) -> Rate {
    let hashing = || {
        let (memory_kib, passes, lanes) = COST;
        let params = Params::new(memory_kib, passes, lanes, Some(32)).unwrap();
        let mut memory = vec![Block::default(); params.block_count()];
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params);
        let hash = |memory: &mut [Block]| {
            let mut output = [0; 32];
            argon2
                .hash_password_into_with_memory(PASSWORD.as_bytes(), &[7; 16], &mut output, memory)
                .unwrap();
            black_box(output);
        };
        // The memory is touched before the clock runs.
        hash(&mut memory);
        let (start, before) = (Instant::now(), own_cpu());
        let mut hashes = 0_u32;
        while start.elapsed() < turn {
            hash(&mut memory);
            hashes += 1;
        }
        let per_second = f64::from(hashes) / start.elapsed().as_secs_f64();
        (
            per_second,
            own_cpu().saturating_sub(before).as_secs_f64(),
            hashes,
        )
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(hashing)).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.collect()
    });
    let cpu: f64 = results.iter().map(|(_, cpu, _)| cpu).sum();
    let hashes: u32 = results.iter().map(|(_, _, hashes)| hashes).sum();
    Rate {
        per_second: results.iter().map(|(per_second, _, _)| per_second).sum(),
        cpu: cpu * 1e3 / f64::from(hashes),
    }
}

fn own_cpu() -> Duration {
    cpu::on_cpu(&std::fs::read_to_string("/proc/thread-self/schedstat").unwrap())
}

fn logins(callers: &mut [Caller<Logins>], turn: Duration) -> Rate {
    let spent = || -> Duration { WORKING_THREADS.map(cpu::of_threads).iter().sum() };
    let (start, before) = (Instant::now(), spent());
    let per_second = drive(callers, turn);
    let answers = per_second * start.elapsed().as_secs_f64();
    Rate {
        per_second,
        cpu: spent().saturating_sub(before).as_secs_f64() * 1e3 / answers,
    }
}

/// Someone who signs in again and again, and does not keep what comes of it.
struct Logins(String);

impl Default for Logins {
    fn default() -> Self {
        let body = json!({"username": "user-0", "password": PASSWORD}).to_string();
        Self(format!(
            "POST /users/login HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

impl Conversation for Logins {
    fn request(&mut self) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
    }
}

/// Someone who reads `GET /users/user` about a thousand times a second.
struct Reader {
    address: SocketAddr,
    request: Vec<u8>,
}

struct Latencies {
    p50: f64,
    p99: f64,
}

struct Reads<'r>(&'r [u8]);

impl Conversation for Reads<'_> {
    fn request(&mut self) -> Option<&[u8]> {
        Some(self.0)
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
    }
}

impl Reader {
    fn new(address: SocketAddr, grant: &Grant) -> Self {
        let token = grant.access_token.as_str();
        let request = format!(
            "GET /users/user HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        Self {
            address,
            request: request.into_bytes(),
        }
    }

    /// In milliseconds, what reading takes while something else goes on.
    fn latencies_while(&self, else_goes_on: impl FnOnce()) -> Latencies {
        let over = AtomicBool::new(false);
        let mut times: Vec<f64> = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut times = Vec::new();
                let mut caller = [Caller::connect(self.address, Reads(&self.request), true)];
                while !over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    drive(&mut caller, Duration::ZERO);
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                    thread::sleep(Duration::from_millis(1));
                }
                times
            });
            else_goes_on();
            over.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        times.sort_by(f64::total_cmp);
        Latencies {
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
        }
    }
}

fn print(rounds: &[Round]) {
    let over = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value));
    let cores = f64::from(u32::try_from(cores()).unwrap());
    println!("{:42} {:>8} {:>10} {:>7}", "", "per s", "CPU ms", "ratio");
    let names = [
        ["a bare hash on one thread", "login on one connection"],
        [
            "bare hashes on all cores",
            "login on three connections a core",
        ],
    ];
    for (place, [bare, route]) in names.into_iter().enumerate() {
        println!(
            "{bare:42} {:>8.1} {:>10.3}",
            over(&|round| round.bare[place].per_second),
            over(&|round| round.bare[place].cpu),
        );
        println!(
            "{route:42} {:>8.1} {:>10.3} {:>7.3}",
            over(&|round| round.route[place].per_second),
            over(&|round| round.route[place].cpu),
            over(&|round| round.route[place].cpu / round.bare[place].cpu),
        );
    }
    println!(
        "\nlogins per second: {:.3} of bare hashes on all cores, {:.3} of cores ÷ hash time alone",
        over(&|round| round.route[1].per_second / round.bare[1].per_second),
        over(&|round| round.route[1].per_second / (cores * round.bare[0].per_second)),
    );
    println!(
        "GET /users/user: p50 {:.2} ms, p99 {:.2} ms; while {:.1} logins per second: p50 {:.2} ms, \
         p99 {:.2} ms",
        over(&|round| round.quiet.p50),
        over(&|round| round.quiet.p99),
        over(&|round| round.per_second_with_reader),
        over(&|round| round.busy.p50),
        over(&|round| round.busy.p99),
    );
}
