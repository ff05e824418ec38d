//! `docs/security/asvs.md` names the tests that show each statement. Here: every row names at least
//! one, and every one that is named exists.

use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("crates/countersign")
        .to_owned()
}

/// The rows of all tables, each as the text of its cells.
fn rows(markdown: &str) -> Vec<Vec<String>> {
    let is_ruler = |line: &str| line.bytes().all(|byte| b"|-: ".contains(&byte));
    let lines: Vec<_> = markdown.lines().collect();
    let mut rows = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let is_head = lines.get(index + 1).is_some_and(|next| is_ruler(next));
        if !line.starts_with('|') || is_ruler(line) || is_head {
            continue;
        }
        let cells = line.trim_matches('|').split(" | ");
        rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
    }
    rows
}

/// The names in a cell: whatever stands in backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The files in which a test of this name may stand: `package target path` for an integration test, the
/// target being a file or a directory, `package path` for a unit test.
fn files(name: &str) -> Option<(Vec<PathBuf>, String)> {
    let words: Vec<_> = name.split(' ').collect();
    let (package, path) = (*words.first()?, *words.last()?);
    let mut modules: Vec<_> = path.split("::").collect();
    let function = modules.pop()?.to_owned();
    let package = repository().join("crates").join(package);
    let (root, main) = match words[..] {
        [_, target, _] => (package.join("tests").join(target), package.join("tests")),
        [_, _] => {
            // Unit tests stand in a module `tests` of the file they are about.
            modules.pop().filter(|module| *module == "tests")?;
            (package.join("src"), package.join("src"))
        }
        _ => return None,
    };
    let file = modules
        .iter()
        .fold(root.clone(), |path, part| path.join(part));
    // Where there are many, `tests` is a file of its own.
    let mut candidates = ["mod.rs", "tests.rs"].map(|name| file.join(name)).to_vec();
    candidates.push(file.with_extension("rs"));
    if modules.is_empty() {
        candidates = vec![
            root.with_extension("rs"),
            root.join("main.rs"),
            main.join("lib.rs"),
        ];
    }
    Some((candidates, function))
}

/// Whether the source has a test of this name: the function, with `test` among its attributes. Those that
/// only need other programs are run by `./test`; others that are ignored are none.
fn has_test(source: &str, function: &str) -> bool {
    let start = format!("fn {function}(");
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(index, line)| {
        let is_function = line.starts_with(&start) || line.starts_with(&format!("async {start}"));
        let above = lines[..index].iter().rev();
        let attributes = above.take_while(|line| line.starts_with("#[") || line.ends_with(']'));
        let attributes: Vec<_> = attributes.collect();
        let is = |text: &str| attributes.iter().any(|line| line.starts_with(text));
        let is_run = !is("#[ignore") || is("#[ignore = \"needs ");
        is_function && (is("#[test]") || is("#[tokio::test")) && is_run
    })
}

/// Where tests from outside stand.
const OUTSIDE: [&str; 2] = ["e2e/", "clients/"];

/// Whether a test from outside exists: `file: name`, of a function in Python or with a title in
/// JavaScript.
fn exists_outside(file: &str, name: &str) -> bool {
    let source = fs::read_to_string(repository().join(file)).unwrap_or_default();
    source.contains(&format!("def {name}(")) || source.contains(&format!("test(\"{name}\""))
}

fn exists(name: &str) -> bool {
    let is_outside = OUTSIDE.iter().any(|root| name.starts_with(root));
    if let Some((file, name)) = name.split_once(": ").filter(|_| is_outside) {
        return exists_outside(file, name);
    }
    let Some((candidates, function)) = files(name) else {
        return false;
    };
    let sources = candidates
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    sources
        .into_iter()
        .any(|source| has_test(&source, &function))
}

#[test]
fn every_row_names_tests_that_exist() {
    let file = repository().join("docs/security/asvs.md");
    let markdown = fs::read_to_string(file).expect("docs/security/asvs.md");
    let rows = rows(&markdown);
    assert!(rows.len() > 60, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let [id, _, _, tests] = &row[..] else {
            panic!("not four cells: {row:?}")
        };
        let names = names(tests);
        if names.is_empty() {
            wrong.push(format!("{id} names no test"));
        }
        let missing = names.into_iter().filter(|name| !exists(name));
        wrong.extend(missing.map(|name| format!("{id}: there is no test `{name}`")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_requirement_and_no_attack_stands_twice() {
    let file = repository().join("docs/security/asvs.md");
    let markdown = fs::read_to_string(file).expect("docs/security/asvs.md");
    let mut ids: Vec<_> = rows(&markdown)
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let source = "#[test]\nfn one() {}\n\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn two() {}\n\
                  fn helper() {}\n// fn gone() {}\n#[test]\n#[ignore = \"broken\"]\nfn broken() {}\n";
    assert!(has_test(source, "one") && has_test(source, "two"));
    for other in ["helper", "gone", "broken", "on", "three"] {
        assert!(!has_test(source, other), "{other}");
    }
    assert!(exists(
        "countersign security_table what_is_no_test_is_not_taken_for_one"
    ));
    assert!(exists(
        "countersign-core rotation_model tabs_that_race_end_with_one_token"
    ));
    for other in [
        "countersign-core rotation_model a_browser",
        "countersign security_table nobody_wrote_this",
        "countersign http nowhere::nothing",
        "countersign nothing",
        "e2e/browser/page.test.mjs: nobody wrote this",
        "clients/browser/test/unit/refresh.test.mjs: nobody wrote this",
        "e2e/nowhere.py: test_nothing",
        "",
    ] {
        assert!(!exists(other), "{other}");
    }
}
