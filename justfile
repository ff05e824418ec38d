# Every recipe is one plain command, which the README names too.

# list the recipes
default:
    @just --list

# run the service on http://127.0.0.1:8000
serve:
    cargo run --release -- serve

# run every test, as CI does
test:
    ./test

# run the Rust tests only
quick:
    ./test quick

# lint as CI does
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# read the documentation of the crates
docs:
    cargo doc --workspace --no-deps --open

# run every fuzz target
fuzz seconds="20":
    fuzz/run {{seconds}}

# measure, as docs/performance.md tells
bench:
    cargo bench --workspace
