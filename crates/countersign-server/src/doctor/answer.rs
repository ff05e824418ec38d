//! An answer as it arrived, and what is read out of it.

use serde_json::Value;

/// An answer as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The values of all headers of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(own, _)| own == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The value of a header; of several the first.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(own, _)| own == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// Whether a word stands in a header that lists words, on one line or several.
    pub(super) fn lists(&self, name: &str, word: &str) -> bool {
        let mut words = self.all(name).flat_map(|value| value.split(','));
        words.any(|own| own.trim().eq_ignore_ascii_case(word))
    }

    /// The body, if it is JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The code of a refusal of the service's.
    pub(super) fn code(&self) -> Option<String> {
        Some(self.json()?["code"].as_str()?.to_owned())
    }

    /// Status and code, for people.
    pub(super) fn shown(&self) -> String {
        match self.code() {
            Some(code) => format!("{} {}", self.status, printable(&code)),
            None => self.status.to_string(),
        }
    }
}

/// What came from elsewhere, short and on one line.
pub(super) fn printable(text: &str) -> String {
    let safe: String = text
        .chars()
        .filter(|letter| !letter.is_control())
        .take(120)
        .collect();
    safe.trim().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer with these headers.
    pub(in super::super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Answer {
            status,
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn words_are_found_on_any_line_and_in_any_case() {
        let answer = answer(
            200,
            &[("vary", "accept"), ("vary", "Accept-Encoding, Origin")],
            "",
        );
        assert!(answer.lists("vary", "origin") && answer.lists("vary", "accept"));
        assert!(!answer.lists("vary", "orig"));
    }

    #[test]
    fn what_came_from_elsewhere_stays_on_its_line() {
        assert_eq!(printable("a\nb\u{1b}[2J"), "ab[2J");
        assert_eq!(printable(&"x".repeat(500)).len(), 120);
    }
}
