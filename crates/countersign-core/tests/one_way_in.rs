//! There is one place where sessions begin by a password, one where access tokens are signed, and two that
//! record what a Django site's token was exchanged for. Whatever leads to a session goes through them, and so
//! through what they check, count and keep (ASVS 6.3.4).

use std::fs;
use std::path::{Path, PathBuf};

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the sources are there");
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The files of a crate's sources that hold this, as often as they do, beside their tests.
fn holders(crate_name: &str, text: &str) -> Vec<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crates stand side by side");
    let sources = crates.join(crate_name).join("src");
    let mut holders = Vec::new();
    for file in files_in(&sources) {
        let source = fs::read_to_string(&file).expect("the sources can be read");
        let source = source
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        // However it is broken into lines.
        let source: String = source.split_whitespace().collect();
        let name = file.strip_prefix(&sources).expect("it was found there");
        let name = name.display().to_string();
        // The suite that every store passes is made of tests.
        if name.starts_with("store/contract") {
            continue;
        }
        holders.extend(source.matches(text).map(|_| name.clone()));
    }
    holders
}

#[test]
fn sessions_begin_in_one_place_and_tokens_are_signed_in_one() {
    let core = "countersign-core";
    assert_eq!(holders(core, "store.open_session("), ["auth/login.rs"]);
    let exchanged = holders(core, "store.take_over(");
    assert_eq!(exchanged, ["auth/takeover.rs", "auth/takeover.rs"]);
    assert_eq!(holders(core, "AccessClaims{iss"), ["auth/mod.rs"]);
    assert_eq!(holders(core, ".keys().sign("), ["auth/mod.rs"]);
    for outside in ["countersign", "countersign-server"] {
        for way in [".open_session(", "store.take_over(", ".sign(&claims"] {
            assert_eq!(holders(outside, way), Vec::<String>::new(), "{way}");
        }
    }
}
