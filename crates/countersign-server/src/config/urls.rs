//! URLs that may hold a password, which is never shown.

/// The settings whose value may hold a password.
pub(super) const URLS: [&str; 3] = ["database.url", "database.listen_url", "mail.transport"];

/// Whether there is a password between `//` and `@`.
pub(super) fn holds_password(url: &str) -> bool {
    credentials(url).is_some_and(|(start, end)| url[start..end].contains(':'))
}

/// An address without what stands between `//` and `@`.
pub(super) fn without_password(url: &str) -> String {
    match credentials(url) {
        Some((start, end)) => format!("{}(hidden){}", &url[..start], &url[end..]),
        None => url.to_owned(),
    }
}

/// Where they start and end. A path holds none.
fn credentials(url: &str) -> Option<(usize, usize)> {
    let is_path = ["sqlite:", "file:"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    let (start, end) = (url.find("://")? + 3, url.rfind('@')?);
    (start <= end && !is_path).then_some((start, end))
}
