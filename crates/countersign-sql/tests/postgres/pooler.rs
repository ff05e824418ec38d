//! Behind PgBouncer, which gives each transaction another connection.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use countersign_core::audit::Trail;
use countersign_core::store::{Change, Listener, Store as _};
use countersign_sql::PostgresStore;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::{
    Database, eventually, logout, message, open, options, rotate, sign_in, signed_in_ana,
};
use crate::server;

const SOON: Duration = Duration::from_secs(5);

/// PgBouncer with `pool_mode = transaction` and two connections to the server that all share.
struct Pooler {
    process: Child,
    port: u16,
    _directory: TempDir,
}

impl Pooler {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("it is there");
        let (port, behind) = (server::free_port(), server::shared());
        let settings = directory.path().join("pgbouncer.ini");
        let written = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={behind}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = 2\n"
        )
        .replace("* = host", "* = user=countersign host");
        fs::write(&settings, written).expect("it is there");
        server::give_to_postgres(directory.path());
        let process = server::as_postgres("/usr/sbin/pgbouncer")
            .arg("--quiet")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package pgbouncer is installed");
        eventually("PgBouncer listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        Self {
            process,
            port,
            _directory: directory,
        }
    }

    fn url(&self, database: &Database) -> String {
        let name = database.url().rsplit('/').next().expect("it is there");
        format!("postgres://countersign@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs, and PgBouncer"]
async fn two_nodes_work_behind_a_pooler_and_hear_of_each_other() {
    let (database, pooler) = (Database::new().await, Pooler::new().await);
    let behind = options(&pooler.url(&database)).pooled(true);
    let direct = behind.clone().listen_url(database.url()).unwrap();
    // One looks, the other listens past the pooler.
    let (one, other) = (Arc::new(open(&behind).await), Arc::new(open(&direct).await));
    let (ana, _) = signed_in_ana(&*one).await;
    let mut working = JoinSet::new();
    for index in 0..16 {
        let (one, other, ana) = (Arc::clone(&one), Arc::clone(&other), ana.clone());
        working.spawn(async move {
            let session = sign_in(&*one, &ana).await.id;
            for generation in 0..20 {
                let node = if (generation + index) % 2 == 0 {
                    &one
                } else {
                    &other
                };
                assert!(rotate(&**node, session, generation).await.unwrap());
                let found = node.find_session(session).await.unwrap().unwrap().0;
                assert_eq!(found.generation.0, generation + 1);
            }
        });
    }
    working.join_all().await;

    for (from, to) in [(&one, &other), (&other, &one)] {
        let session = sign_in(&**from, &ana).await;
        let mut there = Listener::of(&**to);
        from.end_session(session.id, logout(), &Trail::default())
            .await
            .unwrap();
        loop {
            match there.next(SOON).await {
                Some(Change::SessionEnded(ended)) if ended.id == session.id => break,
                Some(_) => {}
                None => panic!("not heard"),
            }
        }
    }
    one.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs, and PgBouncer"]
async fn a_pooler_that_was_not_told_of_is_guessed() {
    let (database, pooler) = (Database::new().await, Pooler::new().await);
    let refused = PostgresStore::open(&options(&pooler.url(&database))).await;
    let refused = message(refused);
    assert!(refused.contains("PgBouncer"), "{refused}");
}
