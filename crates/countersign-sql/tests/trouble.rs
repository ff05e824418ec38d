//! The file goes away, is locked, cannot be written, is damaged: an answer in time, nothing lost of
//! what was acknowledged, and on again without a restart when it is over.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use countersign_core::audit::Trail;
use countersign_core::mail::MailClaim;
use countersign_core::session::EndedBy;
use countersign_core::store::{
    AccountChange, AccountChangeKind, Change, EndedAt, Listener, Store as _,
};
use countersign_sql::{SqliteOptions, SqliteStore};
use support::{
    Place, assert_corrupt, assert_unavailable, eventually, generation, logout, rotate, sign_in,
    start, with_ana,
};

/// With its log, or without.
fn move_database(from: &Path, to: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        let with = |path: &Path| format!("{}{suffix}", path.display());
        fs::rename(with(from), with(to)).expect("both are in one directory");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_moved_away_takes_no_writes_and_goes_on_when_it_is_back() {
    for suffixes in [&[""][..], &["", "-wal", "-shm"]] {
        let place = Place::new();
        let (store, _, session) = with_ana(&place).await;
        assert!(rotate(&store, session.id, 0).await.unwrap());

        let aside = place.path().with_extension("aside");
        move_database(&place.path(), &aside, suffixes);
        assert_unavailable(&rotate(&store, session.id, 1).await);
        assert_unavailable(
            &store
                .end_session(session.id, logout(), &Trail::default())
                .await,
        );
        assert_unavailable(&store.check().await);
        // Nothing was made in its place.
        assert!(!place.path().exists());
        eventually("reads notice too", async || {
            store.find_session(session.id).await.is_err()
        })
        .await;
        assert_unavailable(&store.find_session(session.id).await);

        move_database(&aside, &place.path(), suffixes);
        assert!(rotate(&store, session.id, 1).await.unwrap());
        assert_eq!(generation(&store, session.id).await, 2);
        eventually("all is well", async || store.check().await.is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_in_its_place_is_used_by_all_connections() {
    let place = Place::new();
    let (store, ana, session) = with_ana(&place).await;
    let other = Place::new();
    drop(with_ana(&other).await);
    let mut listener = Listener::of(&store);

    for suffix in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", place.path().display())).unwrap();
    }
    fs::rename(other.path(), place.path()).unwrap();
    assert!(
        !store
            .end_session(session.id, logout(), &Trail::default())
            .await
            .unwrap()
    );
    assert_eq!(store.find_session(session.id).await.unwrap(), None);
    assert!(store.find_user(ana.id).await.unwrap().is_some());
    // Whoever keeps copies must read everything anew.
    let told_so = async || {
        let told = listener.next(Duration::from_secs(5)).await;
        matches!(told, Some(Change::Everything | Change::HeardAgain))
    };
    eventually("watchers are told", told_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_takes_no_writes_and_a_copy_put_back_has_all_that_was_acknowledged() {
    let place = Place::new();
    let (store, _, session) = with_ana(&place).await;
    let copy = place.path().with_extension("copy");
    fs::copy(place.path(), &copy).unwrap();
    assert!(rotate(&store, session.id, 0).await.unwrap());

    fs::remove_file(place.path()).unwrap();
    assert_unavailable(&rotate(&store, session.id, 1).await);

    // The log was left beside it, and what was committed since the copy is in there.
    fs::copy(&copy, place.path()).unwrap();
    assert_eq!(rotate(&store, session.id, 1).await.ok(), Some(true));
    assert_eq!(generation(&store, session.id).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_log_takes_no_writes() {
    let place = Place::new();
    let (store, _, session) = with_ana(&place).await;
    fs::remove_file(format!("{}-wal", place.path().display())).unwrap();
    let mut acknowledged = 0;
    eventually("it goes on", async || {
        let rotated = rotate(&store, session.id, acknowledged)
            .await
            .is_ok_and(|rotated| rotated);
        acknowledged += u32::from(rotated);
        rotated
    })
    .await;
    drop(store);
    assert_eq!(generation(&place.open(), session.id).await, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_gone_is_an_outage_and_no_panic() {
    let place = Place::new();
    let (store, ..) = with_ana(&place).await;
    let directory = place.path().parent().unwrap().to_owned();
    let aside = directory.with_extension("aside");
    fs::rename(&directory, &aside).unwrap();
    assert_unavailable(&store.check().await);
    fs::rename(&aside, &directory).unwrap();
    eventually("all is well", async || store.check().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_in_its_place_is_refused_and_left_alone() {
    let place = Place::new();
    let (store, _, session) = with_ana(&place).await;
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", place.path().display())).unwrap();
    }
    fs::write(place.path(), "").unwrap();
    assert_unavailable(&rotate(&store, session.id, 0).await);
    assert_eq!(fs::metadata(place.path()).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_database_is_corrupt() {
    let place = Place::new();
    fs::write(
        place.path(),
        "This is not the database that you are looking for.".repeat(99),
    )
    .unwrap();
    assert_corrupt(&SqliteStore::open(&place.options()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_held_by_another_is_waited_for_and_then_an_outage() {
    let place = Place::new();
    let (store, ana, session) = with_ana(&place).await;
    let stranger = place.stranger();
    stranger.execute_batch("BEGIN EXCLUSIVE").unwrap();

    let trail = Trail::default();
    let asked = Instant::now();
    let (one, other, end) = tokio::join!(
        rotate(&store, session.id, 0),
        rotate(&store, session.id, 0),
        store.end_session(session.id, logout(), &trail),
    );
    assert_unavailable(&one);
    assert_unavailable(&other);
    assert_unavailable(&end);
    let timeout = place.options().timeout;
    assert!(
        asked.elapsed() >= timeout && asked.elapsed() < timeout * 3,
        "{:?}",
        asked.elapsed()
    );
    // Reads wait for nobody.
    assert_eq!(
        store
            .find_session(session.id)
            .await
            .unwrap()
            .unwrap()
            .1
            .unwrap()
            .id,
        ana.id
    );

    // A lock that is given back in time is no outage.
    let waiting = rotate(&store, session.id, 0);
    let release = async {
        tokio::time::sleep(timeout / 3).await;
        stranger.execute_batch("ROLLBACK").unwrap();
    };
    assert_eq!(tokio::join!(waiting, release).0.ok(), Some(true));
    assert_eq!(generation(&store, session.id).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_as_damage() {
    let place = Place::new();
    let (store, ana, _) = with_ana(&place).await;
    let first: u32 = place
        .stranger()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let first = first as usize;
    for _ in 0..500 {
        sign_in(&store, &ana).await;
    }
    drop(store);
    let mut bytes = fs::read(place.path()).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages >= first + 10, "only {pages} pages");
    // All but the pages of the schema and where each table begins, so that it opens.
    bytes[4096 * first..].fill(0xa5);
    fs::write(place.path(), bytes).unwrap();
    let store = place.open();
    let change = AccountChange {
        mail: None,
        user: ana.id,
        kind: AccountChangeKind::Active(false),
        ending: EndedAt {
            at: start(),
            by: EndedBy::CommandLine,
        },
        trail: Trail::default(),
    };
    assert_corrupt(&store.change_account(&change).await);
    // And nothing of it was done.
    assert!(store.find_user(ana.id).await.unwrap().unwrap().is_active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_where_nothing_can_be_is_refused_at_the_start() {
    let place = Place::new();
    let nowhere = place.path().join("further/countersign.db");
    assert_unavailable(&SqliteStore::open(&SqliteOptions::new(nowhere)));
    assert_unavailable(&SqliteStore::open(&place.options().create(false)));
    assert!(!place.path().exists());
    let directory = place.path().parent().unwrap().to_owned();
    assert_unavailable(&SqliteStore::open(&SqliteOptions::new(directory)));
    for no_file in [":memory:", "", "file:countersign.db?mode=memory"] {
        assert_unavailable(&SqliteStore::open(&SqliteOptions::new(no_file)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_open_of_a_dropped_store() {
    let place = Place::new();
    let (store, ..) = with_ana(&place).await;
    let path = fs::canonicalize(place.path()).unwrap();
    let is_open = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
        descriptors
            .map(|descriptor| fs::read_link(descriptor.path()))
            .any(|target| target.is_ok_and(|target| target == path))
    };
    assert!(is_open());
    drop(store);
    assert!(!is_open());
    // All that was in the log is in the database.
    assert!(!Path::new(&format!("{}-wal", path.display())).exists());
}

#[tokio::test]
async fn a_file_with_a_second_name_is_not_opened() {
    let place = Place::new();
    drop(place.open());
    let other = place.path().with_extension("other");
    fs::hard_link(place.path(), &other).unwrap();
    for path in [place.path(), other.clone()] {
        let refusal = SqliteStore::open(&SqliteOptions::new(path)).unwrap_err();
        assert!(refusal.to_string().contains("hard links"), "{refusal}");
    }
    fs::remove_file(other).unwrap();
    drop(place.open());
}

#[tokio::test]
async fn mail_of_a_later_version_waits_for_it_and_holds_up_no_other() {
    let place = Place::new();
    let store = place.open();
    let now = start();
    let queue = "INSERT INTO countersign_outbox VALUES (randomblob(16), 'ana@example.org', 'ana', ?1, ?2, ?2, 0)";
    for message in ["moon_changed user:1", "password_changed service"] {
        let at = now.as_millisecond();
        place.stranger().execute(queue, (message, at)).unwrap();
    }
    let claim = MailClaim {
        now,
        until: now,
        limit: 10,
    };
    assert_eq!(store.claim_mail(&claim).await.unwrap().len(), 1);
}
