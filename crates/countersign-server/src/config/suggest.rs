//! "Did you mean …?" for a setting that does not exist.

/// What people call settings in other services, where the spelling alone would not lead here.
const SYNONYMS: [(&str, &str); 24] = [
    ("cors.allow_origins", "cors.origins"),
    ("cors.allowed_origin", "cors.origins"),
    ("cors.allowed_origins", "cors.origins"),
    ("cookies.csrf", "cookies.csrf_name"),
    ("cookies.refresh", "cookies.refresh_name"),
    ("cookies.same_site", "cookies.cross_site"),
    ("cookies.samesite", "cookies.cross_site"),
    ("database.dsn", "database.url"),
    ("database.path", "database.url"),
    ("logging.format", "log.format"),
    ("logging.level", "log.level"),
    ("secrets.file", "secrets.root_file"),
    ("secrets.key", "secrets.root"),
    ("secrets.secret", "secrets.root"),
    ("server.address", "server.listen"),
    ("server.bind", "server.listen"),
    ("server.host", "server.listen"),
    ("server.port", "server.listen"),
    ("server.url", "server.public_url"),
    ("sessions.lifetime", "sessions.absolute"),
    ("tokens.lifetime", "tokens.access_lifetime"),
    ("tokens.secret", "tokens.shared_secret"),
    ("tokens.ttl", "tokens.access_lifetime"),
    ("password.minimum_length", "password.min_length"),
];

/// How alike two names must be, from 0 to 1, for one to be suggested for the other.
const ALIKE: f64 = 0.6;

/// The setting that someone probably meant.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let unknown = unknown.to_lowercase().replace('-', "_");
    let same = |wanted: &str| known.iter().copied().find(|path| *path == wanted);
    if let Some((_, meant)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == unknown) {
        return same(meant);
    }
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = leaf(&unknown);
    let mut same_leaf = known.iter().copied().filter(|path| leaf(path) == wanted);
    if let (Some(elsewhere), None) = (same_leaf.next(), same_leaf.next()) {
        return Some(elsewhere);
    }
    known
        .iter()
        .map(|path| {
            (
                strsim::normalized_damerau_levenshtein(path, &unknown),
                *path,
            )
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, path)| path)
}

/// The word of a short list that someone probably meant.
pub(crate) fn nearest_word<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    known
        .iter()
        .map(|word| {
            (
                strsim::normalized_damerau_levenshtein(&word.to_lowercase(), &unknown),
                *word,
            )
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest_of_all(unknown: &str) -> Option<String> {
        let keys = super::super::keys::all();
        let known: Vec<&str> = keys.iter().map(|key| key.path.as_str()).collect();
        nearest(unknown, &known).map(str::to_owned)
    }

    #[test]
    fn what_was_meant_is_found() {
        for (unknown, meant) in [
            ("cors.allowed_origin", "cors.origins"),
            ("cors.origin", "cors.origins"),
            ("server.listen", "server.listen"),
            ("server.public-url", "server.public_url"),
            ("server.port", "server.listen"),
            ("tokens.grace", "sessions.grace"),
            ("origins", "cors.origins"),
            ("token.access_lifetime", "tokens.access_lifetime"),
            ("password.argon2.memroy", "password.argon2.memory"),
        ] {
            assert_eq!(nearest_of_all(unknown).as_deref(), Some(meant), "{unknown}");
        }
        assert_eq!(nearest_of_all("weather.forecast"), None);
    }

    #[test]
    fn every_synonym_leads_to_a_setting() {
        for (synonym, meant) in SYNONYMS {
            assert_eq!(nearest_of_all(synonym).as_deref(), Some(meant));
        }
    }
}
