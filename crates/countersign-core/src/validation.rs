//! Input that was understood and cannot be accepted: which field, and what would be.

use std::borrow::Cow;
use std::fmt;

/// One field of the input and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name as the caller sent it.
    pub field: &'static str,
    /// A stable word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// Names a field, a code and a sentence.
    pub fn new(
        field: &'static str,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field,
            code,
            detail: detail.into(),
        }
    }
}

/// Input that was understood and cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationError(pub Vec<FieldError>);

impl ValidationError {
    /// The same about a field that the caller sent under another name.
    #[must_use]
    pub fn about(self, field: &'static str) -> Self {
        let renamed = self.0.into_iter();
        Self(renamed.map(|error| FieldError { field, ..error }).collect())
    }
}

impl From<FieldError> for ValidationError {
    fn from(error: FieldError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(" ")?;
            }
            write!(formatter, "{}: {}", error.field, error.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationError {}
