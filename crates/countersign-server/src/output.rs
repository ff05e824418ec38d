//! What people and programs read: standard output, the questions on a terminal, and text from
//! elsewhere made safe to print.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

/// Prints a line to standard output. A reader that has gone (`| head`) is no failure.
pub(crate) fn line(text: impl fmt::Display) {
    let _reader_may_have_gone = writeln!(io::stdout().lock(), "{text}");
}

/// Prints text that ends its own lines to standard output.
pub(crate) fn text(text: impl fmt::Display) {
    let _reader_may_have_gone = write!(io::stdout().lock(), "{text}");
}

/// Prints a line to standard error, where it does not disturb what programs read.
pub(crate) fn note(text: impl fmt::Display) {
    let _reader_may_have_gone = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a value as JSON.
pub(crate) fn json(value: &serde_json::Value) {
    line(format_args!("{value:#}"));
}

/// Whether someone sits there who can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question and reads one line. None at the end of the input.
pub(crate) fn ask(question: &str) -> io::Result<Option<String>> {
    let mut error = io::stderr().lock();
    write!(error, "{question}")?;
    error.flush()?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        writeln!(error)?;
        return Ok(None);
    }
    Ok(Some(answer.trim().to_owned()))
}

/// Shows text from elsewhere with its control characters escaped, so that it can neither break a
/// line nor move the cursor.
pub(crate) struct Safe<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Safe<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(formatter), "{}", self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Safe<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(formatter), "{:?}", self.0)
    }
}

/// Escapes every control character, and what turns the direction of text around.
struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if is_disruptive(character) {
                write!(self.0, "{}", character.escape_unicode())?;
            } else {
                self.0.write_char(character)?;
            }
        }
        Ok(())
    }
}

fn is_disruptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let hostile = "ana\r\n\u{1b}[2J\u{9b}31m\u{202e}x";
        let safe = Safe(hostile).to_string();
        assert_eq!(safe, r"ana\u{d}\u{a}\u{1b}[2J\u{9b}31m\u{202e}x");
        assert_eq!(Safe("Zoë 🦊").to_string(), "Zoë 🦊");
    }
}
