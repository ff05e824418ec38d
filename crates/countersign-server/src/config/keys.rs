//! Every setting there is, read off the sections' own types: name, kind, default and meaning.

use serde_json::Value;

use super::RawSettings;

/// What a setting's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
    List,
    TextOrInteger,
}

impl Kind {
    /// What to write, for people.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Integer => "a whole number that is not negative",
            Self::Boolean => "true or false",
            Self::List => "a list of texts, like [\"one\", \"two\"]",
            Self::TextOrInteger => "a text in quotes or a whole number",
        }
    }

    fn of(schema: &Value) -> Option<Self> {
        let mut types = types(schema);
        types.retain(|name| *name != "null");
        match types.as_slice() {
            ["string"] => Some(Self::Text),
            ["integer"] => Some(Self::Integer),
            ["boolean"] => Some(Self::Boolean),
            ["array"] => Some(Self::List),
            ["string", "integer"] => Some(Self::TextOrInteger),
            _ => None,
        }
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    /// `section.key`, or `section.group.key`.
    pub(crate) path: String,
    /// What its value may be.
    pub(crate) kind: Kind,
    /// The words it takes, if only certain ones.
    pub(crate) words: Vec<String>,
    /// Meaning, unit and default, as its doc comment says.
    pub(crate) documentation: String,
    /// The default; none if it depends on other settings or on the machine.
    pub(crate) default: Option<Value>,
    /// Whether it must never be shown.
    pub(crate) secret: bool,
}

impl Key {
    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        if self.path == "secrets.root" {
            return "COUNTERSIGN_SECRET".to_owned();
        }
        variable(&self.path)
    }
}

/// The environment variable for a path.
pub(crate) fn variable(path: &str) -> String {
    format!("COUNTERSIGN_{}", path.to_uppercase().replace('.', "__"))
}

/// A section of the settings file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) documentation: String,
    pub(crate) keys: Vec<Key>,
}

/// The JSON Schema of the settings file.
pub(crate) fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true);
    settings
        .into_generator()
        .into_root_schema_for::<RawSettings>()
        .to_value()
}

/// The order in which sections are shown: first where the service is, then what it does.
const ORDER: [&str; 18] = [
    "server",
    "database",
    "secrets",
    "tokens",
    "keys",
    "sessions",
    "revocations",
    "cookies",
    "cors",
    "csrf",
    "password",
    "throttle",
    "registration",
    "django",
    "mail",
    "notices",
    "audit",
    "log",
];

/// Every section with its keys.
pub(crate) fn sections() -> Vec<Section> {
    let schema = schema();
    let mut sections: Vec<_> = properties(&schema)
        .map(|(name, section)| {
            let mut keys = Vec::new();
            collect(name, section, None, &mut keys);
            Section {
                name: name.to_owned(),
                documentation: description(section),
                keys,
            }
        })
        .collect();
    sections.sort_by_key(|section| ORDER.iter().position(|name| *name == section.name));
    sections
}

/// Every setting there is.
pub(crate) fn all() -> Vec<Key> {
    sections()
        .into_iter()
        .flat_map(|section| section.keys)
        .collect()
}

fn collect(path: &str, schema: &Value, defaults: Option<&Value>, keys: &mut Vec<Key>) {
    for (name, property) in properties(schema) {
        let path = format!("{path}.{name}");
        let default = property.get("default").or_else(|| defaults?.get(name));
        match Kind::of(property) {
            None => collect(&path, property, default, keys),
            Some(kind) => keys.push(Key {
                path,
                kind,
                words: words(property),
                documentation: description(property),
                default: default.filter(|value| !value.is_null()).cloned(),
                secret: is_secret(property) || property.get("items").is_some_and(is_secret),
            }),
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, property)| (name.as_str(), property))
}

fn is_secret(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn words(schema: &Value) -> Vec<String> {
    let words = schema
        .get("enum")
        .or_else(|| schema.get("items")?.get("enum"));
    let words = words.and_then(Value::as_array).into_iter().flatten();
    words.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn description(schema: &Value) -> String {
    let text = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_says_what_it_means() {
        for key in all() {
            assert!(
                key.documentation.len() > 20,
                "{} has no documentation",
                key.path
            );
        }
    }

    #[test]
    fn the_documented_default_is_the_default() {
        for key in all() {
            let Some(default) = &key.default else {
                continue;
            };
            let shown = match default {
                Value::String(text) => text.clone(),
                Value::Array(items) if items.is_empty() => "none".to_owned(),
                other => other.to_string(),
            };
            let (_, documented) = key.documentation.rsplit_once("Default:").unwrap();
            assert!(
                documented.contains(&shown),
                "{}: {shown} is not in {documented}",
                key.path
            );
        }
    }

    #[test]
    fn every_section_has_its_place() {
        let names: Vec<_> = sections().into_iter().map(|section| section.name).collect();
        assert_eq!(names, ORDER);
    }

    #[test]
    fn nested_settings_are_found() {
        let paths: Vec<_> = all().into_iter().map(|key| key.path).collect();
        for path in [
            "server.listen",
            "server.tls.cert",
            "password.argon2.memory",
            "log.level",
        ] {
            assert!(
                paths.iter().any(|known| known == path),
                "{path} is not in {paths:?}"
            );
        }
    }

    #[test]
    fn secrets_are_marked() {
        let secret: Vec<_> = all()
            .into_iter()
            .filter(|key| key.secret)
            .map(|key| key.path)
            .collect();
        let expected = [
            "secrets.previous",
            "secrets.root",
            "tokens.shared_secret",
            "revocations.token",
            "django.secret_key",
            "mail.password",
        ];
        assert_eq!(secret, expected);
    }

    #[test]
    fn the_environment_variable_follows_from_the_path() {
        assert_eq!(variable("server.tls.cert"), "COUNTERSIGN_SERVER__TLS__CERT");
    }
}
