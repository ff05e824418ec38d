//! The power is cut: what was written and not brought to disk is gone. What was answered is not.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{LOGOUT, PASSWORD, Place, SignedIn, send};

/// Of a file, what has been brought to disk.
const ON_DISK: &str = ".on-disk";

/// A place whose power can be cut.
struct Outlet {
    place: Place,
    preload: String,
}

impl Outlet {
    fn new() -> Self {
        let place = Place::new();
        place.write("on_disk.c", include_str!("on_disk.c"));
        let library = place.path("on_disk.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &place.path("on_disk.c")])
            .status()
            .expect("`cc` is there: without it nothing here is built");
        assert!(compiled.success());
        Self {
            place,
            preload: library.to_str().unwrap().to_owned(),
        }
    }

    fn variables(&self) -> [(&str, &str); 1] {
        [("LD_PRELOAD", &self.preload)]
    }

    /// Files become what of them is on disk. Those of which nothing is are gone.
    fn cut_power(&self) {
        for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
            let file = self.place.path(name);
            let on_disk = PathBuf::from(format!("{}{ON_DISK}", file.display()));
            if on_disk.exists() {
                fs::copy(on_disk, file).unwrap();
            } else if file.exists() {
                fs::remove_file(file).unwrap();
            }
        }
    }
}

#[test]
fn what_was_answered_survives_a_power_cut() {
    let outlet = Outlet::new();
    let place = &outlet.place;
    place.settings("password.argon2.memory = \"7MiB\"\npassword.argon2.passes = 5");
    let words = ["createsuperuser", "--username", "ana", "--no-input"];
    let [preload] = outlet.variables();
    let said = place.run_with(
        &[preload, ("COUNTERSIGN_SUPERUSER_PASSWORD", PASSWORD)],
        &words,
    );
    assert_eq!(said.status, Some(0), "{said:?}");
    outlet.cut_power();
    let mut over: Vec<(SignedIn, &str)> = Vec::new();
    let mut goes_on: Option<SignedIn> = None;
    let mut generation = 0;
    for round in 0..6 {
        let service = place.serve_with(&outlet.variables());
        let port = place.port;
        assert_eq!(place.integrity(), "ok");
        for (who, reason) in &over {
            for reply in [who.user(port), who.refresh(port)] {
                let problem = reply.refused(401, "session_ended");
                assert_eq!(problem["end_reason"], *reason);
            }
        }
        let mut ana = goes_on.unwrap_or_else(|| SignedIn::new(port, "ana"));
        assert_eq!(place.generation(&ana.session), Some(generation));
        // Enough for the log to be carried over into the database now and then.
        for _ in 0..60 * round {
            ana = SignedIn::from_reply(&ana.refresh(port));
            generation += 1;
        }
        // The last thing that happens is another one each time.
        let leaves = SignedIn::new(port, "ana");
        if round % 3 == 2 {
            let end = ["session", "end", &leaves.session];
            let said = place.run_with(&outlet.variables(), &end);
            assert_eq!(said.status, Some(0), "{said:?}");
            over.push((leaves, "revoked_by_admin"));
        } else {
            let reply = send(port, LOGOUT, &leaves.cookies(), "");
            assert_eq!(reply.status, 204, "{reply:?}");
            over.push((leaves, "logout"));
        }
        if round % 3 == 1 {
            ana = SignedIn::from_reply(&ana.refresh(port));
            generation += 1;
        }
        goes_on = Some(ana);
        service.kill();
        outlet.cut_power();
    }
}
