//! What is wrong with the settings: everything at once, each with its way out.

use std::fmt;

use serde_json::{Value, json};

use super::{Layers, Source};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Which setting, as `section.key`; none if it is about a whole file.
    pub(crate) key: Option<String>,
    /// Where its value came from.
    pub(crate) source: Option<Source>,
    /// What is wrong and what to do. Never holds a secret.
    pub(crate) message: String,
}

/// Everything that is wrong, in the order in which it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes what is wrong with a setting.
    pub(crate) fn add(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(Problem {
            key: Some(key.to_owned()),
            source: None,
            message: message.into(),
        });
    }

    /// Notes what is wrong with a value that came from `source`.
    pub(crate) fn add_from(&mut self, key: &str, source: &Source, message: impl Into<String>) {
        let source = Some(source.clone());
        self.0.push(Problem {
            key: Some(key.to_owned()),
            source,
            message: message.into(),
        });
    }

    /// Notes what is wrong apart from any one setting.
    pub(crate) fn add_general(&mut self, message: impl Into<String>) {
        self.0.push(Problem {
            key: None,
            source: None,
            message: message.into(),
        });
    }

    /// The value, or a note of what is wrong with it and a stand-in, so that the rest is checked too.
    pub(crate) fn keep<T>(&mut self, key: &str, value: Result<T, String>, stand_in: T) -> T {
        value.unwrap_or_else(|message| {
            self.add(key, message);
            stand_in
        })
    }

    /// Says of every problem where the value came from, as far as that is known.
    pub(crate) fn name_sources(&mut self, find: impl Fn(&str) -> Option<Source>) {
        for problem in &mut self.0 {
            if problem.source.is_none() {
                problem.source = problem.key.as_deref().and_then(&find);
            }
        }
    }

    /// All is well, or everything that is wrong and where in the layers it came from.
    pub(super) fn none_from(mut self, layers: &Layers) -> Result<(), Self> {
        if self.is_empty() {
            return Ok(());
        }
        self.name_sources(|key| Some(layers.source(key)));
        Err(self)
    }

    /// For programs: a list of `{key, source, message}`.
    pub(crate) fn to_json(&self) -> Value {
        let entry = |problem: &Problem| {
            let source = problem.source.as_ref().map(ToString::to_string);
            json!({ "key": problem.key, "source": source, "message": problem.message })
        };
        self.0.iter().map(entry).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Problems {
    fn from(message: String) -> Self {
        let mut problems = Self::default();
        problems.add_general(message);
        problems
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, &self.source) {
            (None, _) => {}
            (Some(key), None | Some(Source::Default)) => write!(formatter, "{key}: ")?,
            (Some(key), Some(source)) => write!(formatter, "{key} ({source}): ")?,
        }
        formatter.write_str(&self.message)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => formatter.write_str("one setting is refused:")?,
            count => write!(formatter, "{count} settings are refused:")?,
        }
        for problem in &self.0 {
            write!(formatter, "\n  - {problem}")?;
        }
        Ok(())
    }
}
