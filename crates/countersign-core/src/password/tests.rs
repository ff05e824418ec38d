//! The hasher as its users meet it.

use super::*;
use std::sync::Mutex;
use std::thread;

use crate::clock::{SystemClock, SystemRandomness};

fn hasher(settings: HashingSettings) -> PasswordHasher {
    PasswordHasher::start(settings, Arc::new(SystemClock), Arc::new(SystemRandomness))
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned()).unwrap()
}

#[tokio::test]
async fn a_password_matches_its_own_hash_and_no_other() {
    let hasher = hasher(HashingSettings::CHEAP);
    let stored = hasher.hash(password("correct horse")).await.unwrap();
    let check = async |text| {
        hasher
            .verify(password(text), Some(stored.clone()))
            .await
            .unwrap()
    };
    assert_eq!(check("correct horse").await, Verdict::Right);
    assert_eq!(check("correct horse ").await, Verdict::Wrong);
    assert_eq!(check("Correct horse").await, Verdict::Wrong);
    assert_eq!(check("correct horse\0").await, Verdict::Wrong);
}

/// An `å` as one character, and as two; neither is the Ångström sign, which NFC undoes.
const COMPOSED: &str = "bl\u{e5}b\u{e6}rtur";
const DECOMPOSED: &str = "bla\u{30a}b\u{e6}rtur";

#[tokio::test]
async fn a_new_password_opens_however_the_keyboard_writes_it() {
    let hasher = hasher(HashingSettings::CHEAP);
    for (set, typed) in [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)] {
        let stored = hasher.hash(password(set)).await.unwrap();
        for typed in [set, typed] {
            let verdict = hasher.verify(password(typed), Some(stored.clone())).await;
            assert_eq!(verdict.unwrap(), Verdict::Right, "{set} {typed}");
        }
        // Nothing more than that is folded.
        for other in [
            "BL\u{c5}B\u{c6}RTUR",
            "blab\u{e6}rtur",
            "bl\u{e5}b\u{e6}rtur ",
        ] {
            let verdict = hasher.verify(password(other), Some(stored.clone())).await;
            assert_eq!(verdict.unwrap(), Verdict::Wrong, "{set} {other}");
        }
    }
}

#[tokio::test]
async fn a_password_that_django_stored_in_another_form_opens_as_it_is_and_stays_so() {
    let settings = HashingSettings::CHEAP;
    let as_django_does = NewHash::new(&settings, b"saltsaltsaltsalt".to_vec()).of(
        DECOMPOSED.as_bytes(),
        &mut Argon2Memory::keeping(settings.cost),
    );
    let cost = Argon2Cost {
        memory_kib: 16,
        ..settings.cost
    };
    let hasher = hasher(HashingSettings { cost, ..settings });
    let check = async |typed, stored: &EncodedPassword| {
        let verdict = hasher.verify(password(typed), Some(stored.clone())).await;
        verdict.unwrap()
    };
    assert_eq!(check(COMPOSED, &as_django_does).await, Verdict::Wrong);
    let Verdict::RightAndUpgraded(upgraded) = check(DECOMPOSED, &as_django_does).await else {
        panic!("it is right");
    };
    assert_eq!(check(DECOMPOSED, &upgraded).await, Verdict::Right);
    // Or the Django beside us would refuse what it has accepted so far.
    assert_eq!(check(COMPOSED, &upgraded).await, Verdict::Wrong);
}

#[tokio::test]
async fn nobody_and_unusable_passwords_match_nothing() {
    let hasher = hasher(HashingSettings::CHEAP);
    for stored in [
        None,
        Some(EncodedPassword::unusable()),
        Some(EncodedPassword::new("")),
    ] {
        let verdict = hasher.verify(password("!"), stored).await.unwrap();
        assert_eq!(verdict, Verdict::Wrong);
    }
}

#[tokio::test]
async fn an_outdated_hash_is_upgraded_when_the_password_is_right() {
    let old = hasher(HashingSettings::CHEAP);
    let stored = old.hash(password("correct horse")).await.unwrap();
    let cost = Argon2Cost {
        memory_kib: 16,
        passes: 2,
        lanes: 1,
    };
    let today = hasher(HashingSettings {
        cost,
        ..HashingSettings::CHEAP
    });

    let wrong = today
        .verify(password("wrong"), Some(stored.clone()))
        .await
        .unwrap();
    assert_eq!(wrong, Verdict::Wrong);
    let right = today
        .verify(password("correct horse"), Some(stored))
        .await
        .unwrap();
    let Verdict::RightAndUpgraded(upgraded) = right else {
        panic!("not upgraded: {right:?}")
    };
    assert!(
        upgraded
            .as_str()
            .starts_with("argon2$argon2id$v=19$m=16,t=2,p=1$")
    );
    let again = today
        .verify(password("correct horse"), Some(upgraded))
        .await
        .unwrap();
    assert_eq!(again, Verdict::Right);
}

#[tokio::test]
async fn todays_cost_is_owasps_and_fits_djangos_column() {
    let settings = HashingSettings {
        write_as: WriteAs::Argon2,
        cost: Argon2Cost::default(),
        threads: 1,
        queue: 1,
    };
    let stored = hasher(settings)
        .hash(password("correct horse"))
        .await
        .unwrap();
    assert!(
        stored
            .as_str()
            .starts_with("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    );
    assert!(
        stored.as_str().len() <= 128,
        "{} characters",
        stored.as_str().len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_queue_the_answer_is_overloaded() {
    let settings = HashingSettings {
        threads: 1,
        queue: 2,
        ..HashingSettings::CHEAP
    };
    let hasher = hasher(settings);
    let (started, has_started) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let blocked = hasher.run(move |_| {
        let _receiver_waits = started.send(());
        let _sender_lives = released.recv();
    });
    let busy = async {
        has_started.await.unwrap();
        let waiting = [hasher.hash(password("one")), hasher.hash(password("two"))];
        let mut waiting = Box::pin(async {
            let [one, two] = waiting;
            tokio::join!(one, two)
        });
        // Poll once, so that both stand in the queue.
        tokio::select! { biased; _ = &mut waiting => unreachable!(), () = async {} => {} }
        assert!(hasher.hash(password("three")).await.is_err());
        release.send(()).unwrap();
        let (one, two) = waiting.await;
        assert!(one.is_ok() && two.is_ok());
    };
    let (blocked, ()) = tokio::join!(blocked, busy);
    assert!(blocked.is_ok());
}

#[tokio::test]
async fn a_queue_of_nothing_still_serves_an_idle_thread() {
    let hasher = hasher(HashingSettings {
        threads: 1,
        queue: 0,
        ..HashingSettings::CHEAP
    });
    // The thread may still be on its way to its first wait.
    for _ in 0..1_000 {
        if hasher.hash(password("one")).await.is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("an idle thread was never given work");
}

#[test]
fn an_overlong_password_is_refused_before_hashing() {
    assert!(Password::new("a".repeat(MAX_PASSWORD_BYTES)).is_ok());
    assert!(Password::new("a".repeat(MAX_PASSWORD_BYTES + 1)).is_err());
    assert!(Password::new(String::new()).is_err());
}

/// A clock by which every piece of work takes as long as is said.
struct Pretended {
    each_takes: Mutex<Duration>,
    uptime: Mutex<Duration>,
}

impl Pretended {
    fn each_takes(&self, milliseconds: u64) {
        *self.each_takes.lock().unwrap() = Duration::from_millis(milliseconds);
    }
}

impl Clock for Pretended {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now()
    }

    fn uptime(&self) -> Duration {
        let mut uptime = self.uptime.lock().unwrap();
        *uptime += *self.each_takes.lock().unwrap();
        *uptime
    }
}

const DJANGOS: &str = "md5$Y8hQ0rxnKPUnGbT8rqfvkT$c8a9e4a1d5ab59eee2c0b8b1c1a0ed6a";

#[tokio::test(start_paused = true)]
async fn a_stranger_waits_as_long_for_no_as_someone_whose_password_django_stored() {
    let clock = Arc::new(Pretended {
        each_takes: Mutex::default(),
        uptime: Mutex::default(),
    });
    let hasher = PasswordHasher::start(
        HashingSettings::CHEAP,
        clock.clone(),
        Arc::new(SystemRandomness),
    );
    let held_back = async |stored: Option<&str>, takes| {
        clock.each_takes(takes);
        let asked = tokio::time::Instant::now();
        let stored = stored.map(EncodedPassword::new);
        let verdict = hasher.verify(password("wrong"), stored).await.unwrap();
        assert_eq!(verdict, Verdict::Wrong);
        asked.elapsed()
    };
    // The clock is looked at once more before waiting: two times what a check takes have passed.
    let ms = Duration::from_millis;
    assert_eq!(held_back(None, 10).await, ms(0), "all cost the same");
    assert_eq!(held_back(Some(DJANGOS), 160).await, ms(0));
    // 160 ms, and an eighth of it.
    assert_eq!(held_back(None, 10).await, ms(180 - 20));
    assert_eq!(held_back(Some("!"), 10).await, ms(180 - 20));
    assert_eq!(held_back(Some(DJANGOS), 32).await, ms(162 - 64));
    assert_eq!(
        held_back(None, 5_000).await,
        ms(0),
        "no longer than it took"
    );
}

#[tokio::test]
async fn the_right_password_is_not_held_back() {
    let hasher = hasher(HashingSettings::CHEAP);
    hasher.pace.expect(
        StoredHash::parse(&EncodedPassword::new(DJANGOS))
            .unwrap()
            .cost(),
    );
    let stored = hasher.hash(password("correct horse")).await.unwrap();
    tokio::time::pause();
    let asked = tokio::time::Instant::now();
    let verdict = hasher.verify(password("correct horse"), Some(stored));
    assert_eq!(verdict.await.unwrap(), Verdict::Right);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn what_is_learned_is_measured_without_being_waited_for() {
    let hasher = hasher(HashingSettings::CHEAP);
    let todays = hasher.hash(password("correct horse")).await.unwrap();
    hasher.learn(&[todays, EncodedPassword::unusable()]);
    assert_eq!(hasher.floor(), Duration::ZERO, "all cost the same");
    hasher.learn(&[EncodedPassword::new(DJANGOS)]);
    for _ in 0..1_000 {
        let floor = hasher.floor();
        assert!(floor > Duration::ZERO);
        if floor < pace::LONGEST {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it was never measured");
}
