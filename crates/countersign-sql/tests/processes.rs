//! Several processes on one file, and one that is killed.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use countersign_core::audit::Trail;
use countersign_core::session::{EndedBy, EndedSession, SessionId};
use countersign_core::store::{
    AccountChange, AccountChangeKind, Change, EndedAt, KeyState, Listener, SealedSigningKey,
    Store as _,
};
use countersign_sql::{SqliteOptions, SqliteStore};
use countersign_token::Algorithm;
use support::{Place, assert_unavailable, eventually, generation, logout, rotate, start, with_ana};

/// After this, the end of a session must hold in every process: so long is listened for what must not
/// be told again. That it is not later is for `cargo bench -p countersign-server --bench revocation`.
const TOLD_WITHIN: Duration = Duration::from_millis(250);

/// How long a change may take on a machine that has other things to do as well.
const AT_LAST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_to_another_process_and_once() {
    let place = Place::new();
    let (here, ana, session) = with_ana(&place).await;
    let there = place.open();
    let (mut told_here, mut heard_there) = (Listener::of(&here), Listener::of(&there));

    there
        .end_session(session.id, logout(), &Trail::default())
        .await
        .unwrap();
    let ended = Change::SessionEnded(EndedSession {
        id: session.id,
        user: ana.id,
        end: logout(),
    });
    assert!(heard_there.heard().contains(&ended));
    assert_eq!(next(&mut told_here).await, ended);
    // And it is so.
    assert!(
        here.find_session(session.id)
            .await
            .unwrap()
            .unwrap()
            .0
            .end
            .is_some()
    );

    let change = AccountChange {
        user: ana.id,
        kind: AccountChangeKind::Active(false),
        ending: EndedAt {
            at: start(),
            by: EndedBy::CommandLine,
        },
        mail: None,
        trail: Trail::default(),
    };
    there.change_account(&change).await.unwrap().unwrap();
    assert_eq!(next(&mut told_here).await, Change::UserChanged(ana.id));

    let key = SealedSigningKey {
        kid: "kid".to_owned(),
        algorithm: Algorithm::Es256,
        state: KeyState::Current,
        sealed: vec![1],
        created_at: start(),
        state_since: start(),
    };
    there
        .swap_signing_keys(&[], &[key], &Trail::default())
        .await
        .unwrap();
    assert_eq!(next(&mut told_here).await, Change::KeysChanged);

    // One's own changes are not repeated when they are found in the table.
    tokio::time::sleep(TOLD_WITHIN).await;
    assert_eq!(without_strangers(told_here.heard()), []);
    assert_eq!(
        without_strangers(heard_there.heard()),
        [Change::UserChanged(ana.id), Change::KeysChanged]
    );
}

/// The next change. That another process has written, whatever it was, is told besides.
async fn next(listener: &mut Listener) -> Change {
    loop {
        let change = listener.next(AT_LAST).await.expect("it is told");
        if change != Change::UsersChanged {
            return change;
        }
    }
}

fn without_strangers(mut heard: Vec<Change>) -> Vec<Change> {
    heard.retain(|change| *change != Change::UsersChanged);
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn that_another_program_has_written_is_told_once() {
    let place = Place::new();
    let (store, ana, _) = with_ana(&place).await;
    tokio::time::sleep(TOLD_WITHIN).await;
    let mut listener = Listener::of(&store);
    tokio::time::sleep(TOLD_WITHIN).await;
    assert_eq!(listener.heard(), [], "nobody has written");

    // As Django's admin does it.
    place
        .stranger()
        .execute(
            "UPDATE auth_user SET is_active = 0 WHERE id = ?1",
            [ana.id.0],
        )
        .unwrap();
    let told = listener.next(AT_LAST).await;
    assert_eq!(told, Some(Change::UsersChanged));
    tokio::time::sleep(TOLD_WITHIN).await;
    assert_eq!(listener.heard(), [], "once");
}

/// Set for a child process: the database it works on.
const DATABASE: &str = "COUNTERSIGN_TEST_DATABASE";

/// Starts a test of this file in a process of its own.
fn child(test: &str, place: &Place) -> Child {
    Command::new(env::current_exe().expect("a path"))
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DATABASE, place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("this very program starts")
}

/// `None`: this process is no child.
fn child_options() -> Option<SqliteOptions> {
    let path = env::var_os(DATABASE)?;
    Some(SqliteOptions::new(path).timeout(Duration::from_secs(20)))
}

#[test]
fn processes_that_start_together_migrate_once() {
    let place = Place::new();
    let children = [(); 4].map(|()| child("child_that_opens", &place));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    place.open();
}

#[test]
#[ignore = "a child process of processes_that_start_together_migrate_once"]
fn child_that_opens() {
    let Some(options) = child_options() else {
        return;
    };
    SqliteStore::open(&options).unwrap();
}

/// Where a migration is interrupted: at its beginning, and after each tenth of the time it takes.
const TENTHS: u32 = 10;

#[test]
fn a_migration_that_is_killed_half_way_is_done_whole_by_the_next_two() {
    let old = Place::new();
    let stranger = old.of_the_first_version();
    // So many that it takes its time.
    stranger
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO countersign_session
             SELECT randomblob(16), 7, i % 5, 1795341600000, 1795341660000, 1, NULL, NULL,
                    CASE i % 2 WHEN 0 THEN 1795341660000 + i END,
                    CASE i % 2 WHEN 0 THEN 'logout' END, CASE i % 2 WHEN 0 THEN 'user:7' END
             FROM n;
             PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
    drop(stranger);
    let undisturbed = kill_migration_of(&old, Duration::from_mins(1)).took;

    let mut interrupted = 0;
    for tenth in 0..TENTHS {
        let killed = kill_migration_of(&old, undisturbed * tenth / TENTHS);
        let place = killed.place;
        let versions = SqliteStore::schema_versions(&place.options()).unwrap();
        assert!(
            [1, versions.wanted].contains(&versions.current),
            "{versions:?}"
        );
        interrupted += u32::from(versions.is_pending());

        let both = [(); 2].map(|()| child("child_that_opens", &place));
        for mut child in both {
            assert!(child.wait().unwrap().success());
        }
        let versions = SqliteStore::schema_versions(&place.options()).unwrap();
        assert!(!versions.is_pending(), "{versions:?}");
        let stranger = place.stranger();
        let count = |what: &str| -> i64 { stranger.query_row(what, [], |row| row.get(0)).unwrap() };
        let sessions = "SELECT count(*) FROM countersign_session WHERE user_id = 7";
        assert_eq!(count(sessions), 100_001);
        let ended = "SELECT count(*) FROM countersign_session WHERE ended_at IS NOT NULL";
        assert_eq!(count(ended), 50_000);
        let verdict: String = stranger
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
    }
    assert!(interrupted > 0, "no kill came in time");
}

struct KilledMigration {
    place: Place,
    /// How long it went on.
    took: Duration,
}

/// Has a process migrate a copy of a database, and kills it so long after it has begun, unless it has
/// come to its end.
fn kill_migration_of(old: &Place, after: Duration) -> KilledMigration {
    let place = Place::new();
    fs::copy(old.path(), place.path()).expect("there is room");
    let stranger = place.stranger();
    stranger
        .busy_timeout(Duration::ZERO)
        .expect("a connection takes it");
    let mut migrating = child("child_that_opens", &place);
    let deadline = Instant::now() + Duration::from_secs(20);
    // Who migrates holds the lock all the time.
    while stranger.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
        assert!(Instant::now() < deadline, "it never began");
    }
    let began = Instant::now();
    while began.elapsed() < after
        && migrating
            .try_wait()
            .expect("it is a child of ours")
            .is_none()
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = began.elapsed();
    migrating.kill().expect("it is a child of ours");
    migrating.wait().expect("it is a child of ours");
    KilledMigration { place, took }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    for round in 0..5 {
        let place = Place::new();
        let mut child = child("child_that_rotates", &place);
        let mut acknowledged = Vec::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Somewhere in the middle, elsewhere each time.
        while acknowledged.len() < 500 + 37 * round {
            assert!(Instant::now() < deadline, "the child is too slow");
            let line = lines.next().expect("the child goes on").unwrap();
            acknowledged.extend(parse(&line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died, it said after the commit.
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));

        let store = place.open();
        for (session, rotated_to) in &acknowledged {
            let kept = generation(&store, *session).await;
            assert!(
                kept >= *rotated_to,
                "{session}: {rotated_to} was acknowledged, {kept} kept"
            );
        }
        let verdict: String = place
            .stranger()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        // And each session goes on from where it is.
        let (session, _) = acknowledged[0];
        assert!(
            rotate(&store, session, generation(&store, session).await)
                .await
                .unwrap()
        );
    }
}

fn parse(line: &str) -> Option<(SessionId, u32)> {
    let (session, generation) = line.strip_prefix("rotated ")?.split_once(' ')?;
    Some((session.parse().ok()?, generation.parse().ok()?))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of what_was_acknowledged_survives_a_kill"]
async fn child_that_rotates() {
    let Some(options) = child_options() else {
        return;
    };
    let store = Arc::new(SqliteStore::open(&options).unwrap());
    let ana = store
        .create_user(&support::ana(), &Trail::default())
        .await
        .unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let session = support::sign_in(&*store, &ana).await.id;
        let store = Arc::clone(&store);
        clients.spawn(async move {
            for generation in 0.. {
                assert!(rotate(&*store, session, generation).await.unwrap());
                let line = format!("rotated {session} {}\n", generation + 1);
                // In one piece, or one client's would be read in the middle of another's.
                io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    clients.join_all().await;
}

/// On a file system of its own, for others would feel it if theirs were full.
#[test]
#[ignore = "mounts a small file system: needs `unshare` (util-linux) and user namespaces"]
fn a_full_file_system_is_an_outage_and_no_damage() {
    let place = Place::new();
    let directory = place.path().parent().unwrap().to_owned();
    let mounted = "mount -t tmpfs -o size=1m countersign \"$1\" && shift && exec \"$@\"";
    let ended = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-ec", mounted, "sh"])
        .arg(directory)
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "child_that_fills_the_disk",
            "--ignored",
            "--nocapture",
        ])
        .env(DATABASE, place.path())
        .status()
        .expect("`unshare` is installed");
    assert!(ended.success(), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of a_full_file_system_is_an_outage_and_no_damage"]
async fn child_that_fills_the_disk() {
    let Some(options) = child_options() else {
        return;
    };
    let store = SqliteStore::open(&options).unwrap();
    let ana = store
        .create_user(&support::ana(), &Trail::default())
        .await
        .unwrap();
    let session = support::sign_in(&store, &ana).await.id;
    let ballast = options.path.with_extension("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}

    let mut acknowledged = 0;
    let refused = loop {
        match rotate(&store, session, acknowledged).await {
            Ok(rotated) => {
                assert!(rotated);
                acknowledged += 1;
            }
            refused => break refused,
        }
        assert!(acknowledged < 10_000, "the disk never was full");
    };
    assert_unavailable(&refused);
    assert_unavailable(&store.check().await);
    assert_eq!(generation(&store, session).await, acknowledged);

    fs::remove_file(&ballast).unwrap();
    drop(file);
    assert!(rotate(&store, session, acknowledged).await.unwrap());
    store.check().await.unwrap();
    drop(store);
    let database = rusqlite::Connection::open(&options.path).unwrap();
    let verdict: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

/// What `sqlite3 countersign.db ".restore copy.db"` does to the numbers of the changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_copied_over_a_running_database_is_noticed() {
    let place = Place::new();
    let (here, _, session) = with_ana(&place).await;
    let there = place.open();
    let mut listener = Listener::of(&here);
    // Rows, for the numbers to have somewhere to go back from.
    let ana = there.find_user(session.user_id).await.unwrap().unwrap();
    for _ in 0..5 {
        support::sign_in(&there, &ana).await;
    }
    eventually("the last of them has been told", async || {
        there
            .end_session(session.id, logout(), &Trail::default())
            .await
            .unwrap();
        let ended = |change: &Change| matches!(change, Change::SessionEnded(_));
        listener.heard().iter().any(ended)
    })
    .await;
    place
        .stranger()
        .execute_batch(
            "BEGIN;
             DELETE FROM countersign_change;
             UPDATE sqlite_sequence SET seq = 0 WHERE name = 'countersign_change';
             UPDATE countersign_session SET ended_at = NULL, end_reason = NULL, ended_by = NULL;
             COMMIT;",
        )
        .unwrap();
    eventually("it is noticed", async || {
        listener.heard().contains(&Change::Everything)
    })
    .await;
    there
        .end_session(session.id, logout(), &Trail::default())
        .await
        .unwrap();
    eventually("what comes after it is told", async || {
        let ended = |change: &Change| matches!(change, Change::SessionEnded(ended) if ended.id == session.id);
        listener.heard().iter().any(ended)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_another_program_writes_is_told_while_it_keeps_the_lock() {
    let place = Place::new();
    let options = place.options().timeout(Duration::from_secs(5));
    let store = Arc::new(SqliteStore::open(&options).unwrap());
    let ana = store
        .create_user(&support::ana(), &Trail::default())
        .await
        .unwrap();
    let session = support::sign_in(&*store, &ana).await.id;
    let stranger = place.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Somebody waits for the lock from here on.
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { rotate(&*store, session, 0).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut listener = Listener::of(&*store);
    stranger
        .execute_batch("UPDATE auth_user SET is_active = 0; COMMIT; BEGIN IMMEDIATE;")
        .unwrap();
    let told = listener.next(Duration::from_secs(4)).await;
    stranger.execute_batch("COMMIT").unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(told, Some(Change::UsersChanged));
}
