//! Where values come from: the command line over the environment over the file over the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use toml::{Table, Value};

use super::keys::{Key, Kind};
use super::problems::Problems;
use super::{file_mode, keys, suggest, urls};

/// The settings file that is read from the working directory if none is named.
pub(crate) const DEFAULT_FILE: &str = "countersign.toml";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody set it.
    Default,
    /// The settings file.
    File(PathBuf),
    /// The environment variable with this name.
    Environment(String),
    /// The option with this name.
    CommandLine(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Environment(variable) => formatter.write_str(variable),
            Self::CommandLine(option) => formatter.write_str(option),
        }
    }
}

/// A value of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Override {
    /// Which setting.
    pub(crate) key: &'static str,
    /// The option that gave it, like `--listen`.
    pub(crate) option: &'static str,
    /// What it gave.
    pub(crate) value: String,
}

/// What settings are made from.
#[derive(Clone)]
pub(crate) struct Inputs {
    /// When they are read: some settings are about days.
    pub(crate) now: Timestamp,
    /// The file of `--config`; otherwise [`DEFAULT_FILE`] if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The process's environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// What the command line sets.
    pub(crate) command_line: Vec<Override>,
    /// Whether they are for moving users, which tells of a missing root secret in words of its own.
    pub(crate) moves_users: bool,
}

/// A value that someone gave. No `Debug`: it may be a secret.
struct Given {
    value: Value,
    source: Source,
}

/// The values that were given, the strongest of each. No `Debug`: some are secrets.
#[derive(Default)]
pub(crate) struct Layers {
    given: BTreeMap<String, Given>,
    warnings: Vec<String>,
}

impl Layers {
    /// Reads file, environment and command line; notes every value that is of the wrong kind and
    /// every name that is none.
    pub(crate) fn read(inputs: &Inputs, problems: &mut Problems) -> Self {
        let mut layers = Self::default();
        let reader = Reader { keys: keys::all() };
        reader.read_file(inputs.file.as_deref(), &mut layers, problems);
        reader.read_environment(&inputs.environment, &mut layers, problems);
        for Override { key, option, value } in &inputs.command_line {
            let source = Source::CommandLine(option);
            if let Some(key) = reader.find(key) {
                layers.set(key, Value::String(value.clone()), source);
            }
        }
        layers
    }

    fn set(&mut self, key: &Key, value: Value, source: Source) {
        self.given.insert(key.path.clone(), Given { value, source });
    }

    /// Where a setting's value came from.
    pub(crate) fn source(&self, path: &str) -> Source {
        self.given
            .get(path)
            .map_or(Source::Default, |given| given.source.clone())
    }

    /// Whether this source gives the setting anything. An empty list is nothing, and one that only
    /// names files holds no secret itself.
    fn holds(&self, path: &str, source: &Source) -> bool {
        let names_a_file =
            |item: &Value| item.as_str().is_some_and(|text| text.starts_with("file:"));
        let is_something = |value: &Value| {
            value
                .as_array()
                .is_none_or(|items| !items.iter().all(names_a_file))
        };
        self.given
            .get(path)
            .is_some_and(|given| given.source == *source && is_something(&given.value))
    }

    /// What is not wrong and yet should be said.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// All given values as one document.
    pub(crate) fn document(&self) -> Table {
        let mut document = Table::new();
        for (path, given) in &self.given {
            let mut steps = path.split('.').collect::<Vec<_>>();
            let Some(leaf) = steps.pop() else { continue };
            let mut table = &mut document;
            for step in steps {
                let entry = table
                    .entry(step)
                    .or_insert_with(|| Value::Table(Table::new()));
                let Value::Table(inner) = entry else {
                    unreachable!("a leaf is never a table")
                };
                table = inner;
            }
            table.insert(leaf.to_owned(), given.value.clone());
        }
        document
    }
}

struct Reader {
    keys: Vec<Key>,
}

impl Reader {
    fn find(&self, path: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.path == path)
    }

    fn is_group(&self, path: &str) -> bool {
        let inside = |key: &Key| {
            key.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        self.keys.iter().any(inside)
    }

    fn read_file(&self, named: Option<&Path>, layers: &mut Layers, problems: &mut Problems) {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return,
            Err(error) => {
                problems.add_general(format!("{shown} cannot be read: {error}"));
                return;
            }
        };
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                // Not the error's own display: that quotes the line, which may hold a secret.
                let before = error
                    .span()
                    .and_then(|span| text.get(..span.start))
                    .unwrap_or("");
                let line = before.matches('\n').count() + 1;
                let what = error.message();
                problems.add_general(format!("{shown} is not valid TOML, line {line}: {what}"));
                return;
            }
        };
        let source = Source::File(path.to_owned());
        self.read_table("", &table, &source, layers, problems);
        let holds_secret = self
            .keys
            .iter()
            .any(|key| key.secret && layers.holds(&key.path, &source))
            || urls::URLS.iter().any(|path| {
                layers
                    .given
                    .get(*path)
                    .filter(|given| given.source == source)
                    .and_then(|given| given.value.as_str())
                    .is_some_and(urls::holds_password)
            });
        if holds_secret && file_mode::others_have_access(path) {
            problems.add_general(format!(
                "{shown} holds a secret and others can read it: run `chmod 600 {shown}`"
            ));
        }
    }

    fn read_table(
        &self,
        prefix: &str,
        table: &Table,
        source: &Source,
        layers: &mut Layers,
        problems: &mut Problems,
    ) {
        for (name, value) in table {
            let path = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            if let Some(key) = self.find(&path) {
                if is_of_kind(value, key.kind) {
                    layers.set(key, value.clone(), source.clone());
                } else {
                    let message = format!("write {}", key.kind.description());
                    problems.add_from(&path, source, message);
                }
            } else if let (true, Value::Table(inner)) = (self.is_group(&path), value) {
                self.read_table(&path, inner, source, layers, problems);
            } else if self.is_group(&path) {
                problems.add_from(&path, source, format!("this is a section: write [{path}]"));
            } else {
                problems.add_from(&path, source, self.unknown(&path));
            }
        }
    }

    fn read_environment(
        &self,
        environment: &[(OsString, OsString)],
        layers: &mut Layers,
        problems: &mut Problems,
    ) {
        let mut variables: Vec<_> = environment
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)))
            .filter(|(name, _)| name.starts_with("COUNTERSIGN_"))
            .collect();
        variables.sort_unstable();
        for (name, value) in variables {
            let source = Source::Environment(name.to_owned());
            let Some(path) = self.path_of_variable(name, layers) else {
                continue;
            };
            let Some(key) = self.find(&path) else {
                let message = match self.nearest(&path) {
                    None => self.unknown(&path),
                    Some(key) => format!(
                        "there is no such setting; did you mean {}, which is {} in the environment?",
                        key.path,
                        key.variable()
                    ),
                };
                problems.add_from(&path, &source, message);
                continue;
            };
            let earlier = layers.source(&path);
            if let Source::Environment(other) = &earlier {
                let message = format!("{other} sets it too: keep one of the two");
                problems.add_from(&path, &source, message);
                continue;
            }
            match value
                .to_str()
                .ok_or("it is not UTF-8".to_owned())
                .and_then(|text| parse(text, key.kind))
            {
                Ok(value) => layers.set(key, value, source),
                Err(message) => problems.add_from(&path, &source, message),
            }
        }
    }

    /// The setting that a variable names, if it names one at all.
    fn path_of_variable(&self, name: &str, layers: &mut Layers) -> Option<String> {
        if name == "COUNTERSIGN_SECRET" {
            return Some("secrets.root".to_owned());
        }
        let rest = name.strip_prefix("COUNTERSIGN_")?;
        if rest.contains("__") {
            return Some(rest.to_lowercase().replace("__", "."));
        }
        // Schedulers put variables of the same prefix into the environment, so other names are
        // left alone; but one that lacks only the second underscore was meant for us.
        let meant = self.keys.iter().map(Key::variable);
        if let Some(meant) = meant
            .into_iter()
            .find(|meant| meant.replace("__", "_") == name)
        {
            layers
                .warnings
                .push(format!("{name} has no effect: did you mean {meant}?"));
        }
        None
    }

    fn nearest(&self, path: &str) -> Option<&Key> {
        let known: Vec<&str> = self.keys.iter().map(|key| key.path.as_str()).collect();
        suggest::nearest(path, &known).and_then(|path| self.find(path))
    }

    fn unknown(&self, path: &str) -> String {
        match self.nearest(path) {
            Some(key) => format!("there is no such setting; did you mean {}?", key.path),
            None => "there is no such setting; `countersign config show` lists all".to_owned(),
        }
    }
}

fn is_of_kind(value: &Value, kind: Kind) -> bool {
    match (kind, value) {
        (Kind::Text | Kind::TextOrInteger, Value::String(_))
        | (Kind::Boolean, Value::Boolean(_)) => true,
        (Kind::Integer | Kind::TextOrInteger, Value::Integer(number)) => *number >= 0,
        (Kind::List, Value::Array(items)) => items.iter().all(Value::is_str),
        _ => false,
    }
}

/// Reads a variable's text as a value. Messages never quote it: it may be a secret.
fn parse(text: &str, kind: Kind) -> Result<Value, String> {
    let number = || text.trim().parse().ok().map(Value::Integer);
    let value = match kind {
        Kind::Text => Some(Value::String(text.to_owned())),
        Kind::Integer => number(),
        Kind::Boolean => text.trim().parse().ok().map(Value::Boolean),
        Kind::List => list(text),
        Kind::TextOrInteger => number().or_else(|| Some(Value::String(text.to_owned()))),
    };
    value
        .filter(|value| is_of_kind(value, kind))
        .ok_or_else(|| match kind {
            Kind::List => "write a list like [\"one\", \"two\"], or one,two".to_owned(),
            _ => format!("write {}", kind.description()),
        })
}

fn list(text: &str) -> Option<Value> {
    if text.trim_start().starts_with('[') {
        let mut document = format!("list = {text}").parse::<Table>().ok()?;
        return document.remove("list");
    }
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    Some(Value::Array(
        items.map(|item| Value::String(item.to_owned())).collect(),
    ))
}
