//! The files of the page and of the stranger's, as they are in this directory.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::routing::get;

/// A file of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($directory:literal, $name:literal, $media_type:expr) => {
        Asset {
            name: $name,
            media_type: $media_type,
            text: include_str!(concat!($directory, "/", $name)),
        }
    };
}

pub(super) const PAGE: [Asset; 7] = [
    asset!("page", "index.html", HTML),
    asset!("page", "app.css", CSS),
    asset!("page", "account.js", SCRIPT),
    asset!("page", "app.js", SCRIPT),
    asset!("page", "explain.js", SCRIPT),
    asset!("page", "page.js", SCRIPT),
    // Built from clients/browser; a test of the browser's compares.
    asset!("page", "countersign.js", SCRIPT),
];

pub(super) const STRANGER: [Asset; 3] = [
    asset!("stranger", "index.html", HTML),
    asset!("stranger", "stranger.css", CSS),
    asset!("stranger", "stranger.js", SCRIPT),
];

/// What the page reads where nobody but `countersign serve` is there.
const SETTINGS_TO_START_FROM: &str = "{ \"api\": \"http://localhost:8000\" }\n";

/// Answers with these files, the first also at `/`.
pub(super) fn routes(assets: &[Asset]) -> Router {
    let mut router = Router::new();
    for (index, asset) in assets.iter().copied().enumerate() {
        let answer = move || async move {
            let headers = [
                (header::CONTENT_TYPE, asset.media_type),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            (headers, asset.text).into_response()
        };
        router = router.route(&format!("/{}", asset.name), get(answer));
        if index == 0 {
            router = router.route("/", get(answer));
        }
    }
    router
}

/// Writes the page's files into this directory, which is made if need be; nothing is overwritten. The
/// names of what was written.
pub(crate) fn write_page(directory: &Path) -> io::Result<Vec<&'static str>> {
    DirBuilder::new().recursive(true).create(directory)?;
    let page = PAGE.map(|asset| (asset.name, asset.text));
    let settings = ("settings.json", SETTINGS_TO_START_FROM);
    let mut written = Vec::new();
    for (name, text) in page.into_iter().chain([settings]) {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(directory.join(name))?;
        file.write_all(text.as_bytes())?;
        written.push(name);
    }
    Ok(written)
}
