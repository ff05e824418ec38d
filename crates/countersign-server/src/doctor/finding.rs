//! What a check has found.

use serde::Serialize;
use serde_json::{Value, json};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It is as it should be.
    Pass,
    /// It works, and should not stay so.
    Warn,
    /// It does not work, or not safely.
    Fail,
    /// It could not be looked at.
    Skip,
}

impl Outcome {
    /// Four letters, so that what follows stands in a column.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "ok  ",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "-   ",
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The check's name, which stays.
    pub(crate) check: &'static str,
    pub(crate) outcome: Outcome,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do about it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(crate) fn pass(check: &'static str, seen: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Pass,
            seen: seen.into(),
            remedy: None,
        }
    }

    pub(crate) fn skip(check: &'static str, seen: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Skip,
            ..Self::pass(check, seen)
        }
    }

    pub(crate) fn warn(
        check: &'static str,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Warn,
            remedy: Some(remedy.into()),
            ..Self::pass(check, seen)
        }
    }

    pub(crate) fn fail(
        check: &'static str,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Fail,
            ..Self::warn(check, seen, remedy)
        }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    /// The lines for countersign.toml that fit, if a page was named.
    pub(crate) lines: Option<String>,
}

impl Report {
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.outcome == outcome)
            .count()
    }

    /// For programs. Names and outcomes of checks stay; what was seen is for people.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "checks": self.findings,
            "settings": self.lines,
            "failed": self.count(Outcome::Fail),
            "warned": self.count(Outcome::Warn),
        })
    }
}
