//! A text with places for what is known only when it is sent: `{{name}}`.

use std::fmt::Write as _;

use crate::output::Safe;

/// What a template may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Username,
    Time,
    Service,
    Link,
    Expires,
    NewEmail,
    Address,
    Client,
    Failures,
}

impl Name {
    const ALL: [(&'static str, Self); 9] = [
        ("username", Self::Username),
        ("time", Self::Time),
        ("service", Self::Service),
        ("link", Self::Link),
        ("expires", Self::Expires),
        ("new_email", Self::NewEmail),
        ("address", Self::Address),
        ("client", Self::Client),
        ("failures", Self::Failures),
    ];

    /// Whether every mail has it.
    const fn is_in_all(self) -> bool {
        matches!(self, Self::Time | Self::Service)
    }

    fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, name)| *name == self);
        found.map_or("", |(word, _)| word)
    }

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
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    pub(super) username: String,
    pub(super) time: String,
    pub(super) service: String,
    /// Empty in mails without one.
    pub(super) link: String,
    /// Until when the link works.
    pub(super) expires: String,
    /// The address that an account has now, for those who know it.
    pub(super) new_email: String,
    /// Where somebody signed in from.
    pub(super) address: String,
    /// What with, in words of ours.
    pub(super) client: String,
    /// How many could not before.
    pub(super) failures: String,
}

impl Values {
    fn get(&self, name: Name) -> &str {
        match name {
            Name::Username => &self.username,
            Name::Time => &self.time,
            Name::Service => &self.service,
            Name::Link => &self.link,
            Name::Expires => &self.expires,
            Name::NewEmail => &self.new_email,
            Name::Address => &self.address,
            Name::Client => &self.client,
            Name::Failures => &self.failures,
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

    /// Checks that what must stand in a mail does, and that nothing else does than what may.
    ///
    /// # Errors
    /// In words for whoever wrote it.
    pub(super) fn hold_against(&self, takes: &[Name], needs: &[Name]) -> Result<(), String> {
        let names = || {
            self.0.iter().filter_map(|piece| match piece {
                Piece::Place(name) => Some(*name),
                Piece::Text(_) => None,
            })
        };
        let may = |name: Name| name.is_in_all() || takes.contains(&name) || needs.contains(&name);
        if let Some(stranger) = names().find(|name| !may(*name)) {
            return Err(format!(
                "there is no {{{{{}}}}} in this mail",
                stranger.word()
            ));
        }
        match needs
            .iter()
            .find(|needed| names().all(|name| name != **needed))
        {
            Some(missing) => Err(format!("there must be a {{{{{}}}}} in it", missing.word())),
            None => Ok(()),
        }
    }

    /// The text with these values. Control characters in them are escaped: they begin no line. One that is
    /// empty takes the blank before it along: whom we have no name for, we greet by none.
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
                    if value.is_empty() && filled.ends_with(' ') {
                        filled.pop();
                    }
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
            ..Values::default()
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
            "there is no {{user}}: take {{username}}, {{time}}, {{service}}, {{link}}, {{expires}}, \
             {{new_email}}, {{address}}, {{client}}, {{failures}}"
        );
        assert!(Template::parse("Dear {{username").is_err());
        assert!(Template::parse("{{}}").is_err());
    }
}
