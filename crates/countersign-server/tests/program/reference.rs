//! The settings reference says what the program says.

use std::path::Path;

use crate::harness::Place;

#[test]
fn the_reference_is_the_programs_own() {
    let said = Place::new().run(&["config", "schema", "--markdown"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(
        said.stdout == kept,
        "docs/settings.md is out of date: cargo run -- config schema --markdown > docs/settings.md"
    );
}

#[test]
fn the_schema_is_json() {
    let said = Place::new().run(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        schema["properties"]["server"]["additionalProperties"],
        false
    );
    assert_eq!(
        schema["properties"]["tokens"]["properties"]["shared_secret"]["writeOnly"],
        true
    );
}
