//! A text with places for what is known only when it is sent: `{{name}}`.

use std::fmt::Write as _;

use crate::output::Safe;

/// What a template may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Username,
    Time,
    Service,
}

impl Name {
    const ALL: [(&'static str, Self); 3] = [
        ("username", Self::Username),
        ("time", Self::Time),
        ("service", Self::Service),
    ];

    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, name)| *name).ok_or_else(|| {
            let known = Self::ALL
                .map(|(name, _)| format!("{{{{{name}}}}}"))
                .join(", ");
            format!("there is no {{{{{text}}}}}: take {known}")
        })
    }
}

/// What is put into the places.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub(super) username: String,
    pub(super) time: String,
    pub(super) service: String,
}

impl Values {
    fn get(&self, name: Name) -> &str {
        match name {
            Name::Username => &self.username,
            Name::Time => &self.time,
            Name::Service => &self.service,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Name),
}

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// In words for whoever wrote it: a place that does not end, or a name that is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after
                .split_once("}}")
                .ok_or_else(|| "{{ is not followed by }}".to_owned())?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Place(Name::parse(name.trim())?));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The text with these values. Control characters in them are escaped: they begin no line.
    pub(super) fn fill(&self, values: &Values) -> String {
        self.fill_with(values, |value| value)
    }

    /// The same for HTML, in text and in quoted attributes.
    pub(super) fn fill_html(&self, values: &Values) -> String {
        self.fill_with(values, |value| escape_html(&value))
    }

    fn fill_with(&self, values: &Values, escape: impl Fn(String) -> String) -> String {
        let mut filled = String::new();
        for piece in &self.0 {
            let _infallible = match piece {
                Piece::Text(text) => write!(filled, "{text}"),
                Piece::Place(name) => {
                    let value = escape(Safe(values.get(*name)).to_string());
                    write!(filled, "{value}")
                }
            };
        }
        filled
    }
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(username: &str) -> Values {
        Values {
            username: username.to_owned(),
            time: "noon".to_owned(),
            service: "https://auth.example.org".to_owned(),
        }
    }

    #[test]
    fn places_are_filled_and_the_rest_stays() {
        let template = Template::parse("a {b} {{username}}{{ time }}}} {{service}}\n").unwrap();
        let filled = template.fill(&values("ana"));
        assert_eq!(filled, "a {b} ananoon}} https://auth.example.org\n");
    }

    #[test]
    fn what_is_filled_in_is_not_read_as_a_template() {
        let template = Template::parse("{{username}}").unwrap();
        assert_eq!(template.fill(&values("{{time}}")), "{{time}}");
    }

    #[test]
    fn what_is_filled_in_begins_neither_a_line_nor_a_tag() {
        let template = Template::parse("<b title=\"{{username}}\">").unwrap();
        let hostile = values("a\r\nBcc: b\"'<i>&");
        let filled = template.fill(&hostile);
        assert_eq!(filled, r#"<b title="a\u{d}\u{a}Bcc: b"'<i>&">"#);
        let filled = template.fill_html(&hostile);
        let escaped = r#"<b title="a\u{d}\u{a}Bcc: b&quot;&#39;&lt;i&gt;&amp;">"#;
        assert_eq!(filled, escaped);
    }

    #[test]
    fn unknown_names_and_open_ends_are_refused() {
        let refusal = Template::parse("Dear {{user}}").unwrap_err();
        assert_eq!(
            refusal,
            "there is no {{user}}: take {{username}}, {{time}}, {{service}}"
        );
        assert!(Template::parse("Dear {{username").is_err());
        assert!(Template::parse("{{}}").is_err());
    }
}
