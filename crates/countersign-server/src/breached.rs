//! A file of breached passwords: their SHA-1 in hex, one a line, in the order of the hashes.
//!
//! This is how lists of breached passwords are passed on, with `:` and how often each was seen behind the
//! hash. They have tens of GiB, so nothing of it is kept in memory: a look-up is a binary search in the file
//! itself, of some 35 short reads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use countersign_core::password::{BreachedHash, BreachedPasswords, BreachedUnavailable};

/// The digits of a hash.
const DIGITS: usize = 40;

/// No line is longer: the digits, a colon, a number and the line's end.
const LONGEST_LINE: usize = 96;

/// So many lines from all over the file are looked at when it is opened.
const SAMPLED: u64 = 1_000;

/// A file that is open. If another is put in its place, this one is still read.
#[derive(Debug)]
pub(crate) struct BreachedFile {
    file: File,
    path: PathBuf,
    /// Up to the end of the last line.
    length: u64,
}

/// A line of the file.
struct Line {
    hash: BreachedHash,
    start: u64,
    /// The byte after its line break.
    next: u64,
}

/// Why a line cannot be used.
#[derive(Debug)]
enum LineError {
    Unreadable(io::Error),
    /// At this byte there is something else than a hash.
    Malformed(u64),
}

impl BreachedFile {
    /// Opens a file and looks whether it is what it should be.
    ///
    /// # Errors
    /// What is wrong with it and what to do, for people.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let unreadable = |error: io::Error| {
            format!(
                "{} cannot be read ({error}): let this user read it, or name another file",
                path.display()
            )
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(format!("{} is no file", path.display()));
        }
        let length = length_of_lines(&file, metadata.len()).map_err(unreadable)?;
        let opened = Self {
            file,
            path: path.to_owned(),
            length,
        };
        opened.validate()?;
        Ok(opened)
    }

    /// Looks at the first line, the last, and many in between: whether they are hashes, in their order.
    fn validate(&self) -> Result<(), String> {
        let shown = self.path.display();
        if self.length == 0 {
            return Err(format!("{shown} is empty: {FORMAT}"));
        }
        let mut before: Option<Line> = None;
        for step in 0..=SAMPLED {
            let at = u128::from(self.length - 1) * u128::from(step) / u128::from(SAMPLED);
            let at = u64::try_from(at).unwrap_or(self.length - 1);
            if before.as_ref().is_some_and(|before| at < before.next) {
                continue;
            }
            let line = self.line_at(at).map_err(|error| match error {
                LineError::Unreadable(error) => format!("{shown} cannot be read: {error}"),
                LineError::Malformed(at) => {
                    format!("{shown} has a line at byte {at} that is no SHA-1: {FORMAT}")
                }
            })?;
            if before.is_some_and(|before| line.hash <= before.hash) {
                return Err(format!(
                    "{shown} is not in the order of its hashes at byte {}: sort it with `LC_ALL=C sort`, \
                     or take the download that is ordered by hash",
                    line.start
                ));
            }
            before = Some(line);
        }
        Ok(())
    }

    /// The line in which a byte stands.
    fn line_at(&self, at: u64) -> Result<Line, LineError> {
        let from = at.saturating_sub(LONGEST_LINE as u64);
        let mut bytes = [0; 2 * LONGEST_LINE];
        let wanted = usize::try_from(self.length - from).unwrap_or(bytes.len());
        let bytes = &mut bytes[..wanted.min(2 * LONGEST_LINE)];
        self.file
            .read_exact_at(bytes, from)
            .map_err(LineError::Unreadable)?;
        let position = usize::try_from(at - from).unwrap_or(0);
        let start = bytes[..position]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|before| before + 1);
        // A line that starts before what was read is longer than any.
        let start = match start {
            Some(start) => start,
            None if from == 0 => 0,
            None => return Err(LineError::Malformed(from)),
        };
        let after = bytes[position..].iter().position(|byte| *byte == b'\n');
        let end = match after {
            Some(after) => position + after,
            None if from + bytes.len() as u64 == self.length => bytes.len(),
            None => return Err(LineError::Malformed(from + start as u64)),
        };
        let hash =
            read_line(&bytes[start..end]).ok_or(LineError::Malformed(from + start as u64))?;
        Ok(Line {
            hash,
            start: from + start as u64,
            next: from + end as u64 + 1,
        })
    }
}

/// What the file should be, for people.
const FORMAT: &str = "it should hold a SHA-1 in 40 hexadecimal digits on each line, with or without `:` and a \
                      number behind it, in the order of the hashes";

impl BreachedPasswords for BreachedFile {
    fn contains(&self, hash: &BreachedHash) -> Result<bool, BreachedUnavailable> {
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let line = self.line_at(low + (high - low) / 2).map_err(|error| {
                BreachedUnavailable(match error {
                    LineError::Unreadable(error) => format!("{}: {error}", self.path.display()),
                    LineError::Malformed(at) => {
                        format!("{}: no SHA-1 at byte {at}", self.path.display())
                    }
                })
            })?;
            match line.hash.cmp(hash) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => low = line.next,
                std::cmp::Ordering::Greater => high = line.start,
            }
        }
        Ok(false)
    }
}

/// How long a file is without the line breaks at its end.
fn length_of_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut last = [0; LONGEST_LINE];
    let from = length.saturating_sub(LONGEST_LINE as u64);
    let read = usize::try_from(length - from).unwrap_or(0);
    file.read_exact_at(&mut last[..read], from)?;
    let kept = last[..read].trim_ascii_end().len();
    Ok(from + kept as u64)
}

fn read_line(line: &[u8]) -> Option<BreachedHash> {
    let (digits, rest) = line.split_at_checked(DIGITS)?;
    let is_clean = match rest.trim_ascii_end() {
        [] => true,
        [b':', count @ ..] => !count.is_empty() && count.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_clean {
        return None;
    }
    let mut hash = BreachedHash::default();
    for (byte, digits) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::NamedTempFile;

    use super::*;

    /// A hash that begins with a number, so that hashes are in the order of the numbers.
    fn hash(number: u32) -> BreachedHash {
        let mut hash = [0x5a; 20];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        hash
    }

    fn hex(hash: &BreachedHash) -> String {
        let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        digits
            .map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)]))
            .collect()
    }

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn open(text: &str) -> BreachedFile {
        BreachedFile::open(file(text).path()).unwrap()
    }

    fn refusal(text: &str) -> String {
        BreachedFile::open(file(text).path()).unwrap_err()
    }

    /// Even numbers below twice the count, with counts of every length.
    fn lines(count: u32, line_end: &str) -> String {
        let line = |number: u32| {
            let seen = 10_u64.pow(number % 12);
            [hex(&hash(2 * number)), format!(":{seen}{line_end}")].concat()
        };
        (0..count).map(line).collect()
    }

    #[test]
    fn what_is_listed_is_found_and_nothing_else_however_the_lines_end() {
        for count in [1, 2, 3, 4, 5, 50, 3_000] {
            for line_end in ["\n", "\r\n"] {
                let text = lines(count, line_end);
                for text in [text.as_str(), text.trim_end(), &format!("{text}{line_end}")] {
                    let listed = open(text);
                    for number in 0..=2 * count {
                        let expected = number % 2 == 0 && number < 2 * count;
                        assert_eq!(listed.contains(&hash(number)), Ok(expected), "{number}");
                    }
                    assert_eq!(listed.contains(&[0; 20]), Ok(false));
                    assert_eq!(listed.contains(&[0xff; 20]), Ok(false));
                }
            }
        }
    }

    #[test]
    fn hashes_alone_and_in_small_letters_will_do() {
        let listed = open(&format!(
            "{}\n{}\n",
            hex(&hash(1)).to_lowercase(),
            hex(&hash(2))
        ));
        assert_eq!(listed.contains(&hash(1)), Ok(true));
        assert_eq!(listed.contains(&hash(2)), Ok(true));
        assert_eq!(listed.contains(&hash(3)), Ok(false));
    }

    #[test]
    fn what_is_no_such_list_is_refused_with_what_to_do() {
        assert!(refusal("").contains("is empty"));
        assert!(refusal("\n\n").contains("is empty"));
        let ntlm = "0123456789ABCDEF0123456789ABCDEF:7\n".repeat(3);
        for text in [
            "password\n",
            &ntlm,
            &format!("{}:\n", hex(&hash(1))),
            &format!("{} 7\n", hex(&hash(1))),
            &format!("{}0\n", hex(&hash(1))),
            &format!("{}\n\n{}\n", hex(&hash(1)), hex(&hash(2))),
            &"\0".repeat(1_000),
            &"7".repeat(1_000),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains("40 hexadecimal digits"), "{refusal}");
        }
        let unsorted = format!("{}{}", lines(3, "\n"), lines(3, "\n"));
        assert!(refusal(&unsorted).contains("LC_ALL=C sort"));
        let missing = BreachedFile::open(Path::new("/nowhere/breached.txt")).unwrap_err();
        assert!(missing.contains("name another file"), "{missing}");
        let directory = BreachedFile::open(Path::new("/")).unwrap_err();
        assert!(directory.contains("is no file"), "{directory}");
    }

    #[test]
    fn a_file_that_has_become_shorter_is_no_answer() {
        let kept = file(&lines(3_000, "\n"));
        let listed = BreachedFile::open(kept.path()).unwrap();
        assert_eq!(listed.contains(&hash(4_000)), Ok(true));
        kept.as_file().set_len(40).unwrap();
        assert!(listed.contains(&hash(4_000)).is_err());
    }

    #[test]
    fn a_file_of_many_gigabytes_is_searched_where_it_is() {
        // Sparse: nothing but the lines around the middle is ever written or looked at.
        let kept = NamedTempFile::new().unwrap();
        let file = kept.as_file();
        let length = 43 * (1_u64 << 30);
        file.set_len(length).unwrap();
        let listed = BreachedFile {
            file: file.try_clone().unwrap(),
            path: kept.path().to_owned(),
            length,
        };
        let line = format!("{}:1\n", hex(&hash(7)));
        let start = length / 2 - 10;
        file.write_all_at(b"\n", start - 1).unwrap();
        file.write_all_at(line.as_bytes(), start).unwrap();
        assert_eq!(listed.contains(&hash(7)), Ok(true));
    }
}
