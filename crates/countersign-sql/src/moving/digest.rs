//! What a table holds, in 32 bytes that are the same in every database.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

use super::tables::Value;

/// Counts rows and digests them, in the order in which they come.
pub(crate) struct Digest {
    hash: Context,
    rows: u64,
    /// A row, written out; kept for its room.
    written: Vec<u8>,
}

/// How many rows there were and, in hexadecimal digits, the SHA-256 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) rows: u64,
    pub(crate) sha256: String,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self {
            hash: Context::new(&SHA256),
            rows: 0,
            written: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: &[Value]) {
        self.written.clear();
        for value in row {
            write_out(value, &mut self.written);
        }
        self.hash.update(&self.written);
        self.rows += 1;
    }

    pub(crate) fn finish(self) -> Summary {
        let mut sha256 = String::with_capacity(64);
        for byte in self.hash.finish().as_ref() {
            let _a_string_takes_all = write!(sha256, "{byte:02x}");
        }
        Summary {
            rows: self.rows,
            sha256,
        }
    }
}

/// Its kind, and what can be told from no other value of that kind: what varies in length says its
/// length first.
fn write_out(value: &Value, out: &mut Vec<u8>) {
    let mut varying = |kind, bytes: &[u8]| {
        out.push(kind);
        out.extend_from_slice(&bytes.len().to_be_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Text(text) => varying(b't', text.as_bytes()),
        Value::Bytes(bytes) => varying(b'b', bytes),
        Value::Absent => out.push(b'-'),
        Value::Truth(truth) => out.extend_from_slice(&[b'?', u8::from(*truth)]),
        Value::Number(number) => {
            out.push(b'#');
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Id(id) => {
            out.push(b'i');
            out.extend_from_slice(id.as_bytes());
        }
        Value::Date(date) => {
            out.push(b'd');
            out.extend_from_slice(&date.as_microsecond().to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(rows: &[&[Value]]) -> Summary {
        let mut digest = Digest::new();
        for row in rows {
            digest.add(row);
        }
        digest.finish()
    }

    #[test]
    fn every_difference_is_seen() {
        let text = |text: &str| Value::Text(text.to_owned());
        let all = [
            summary(&[]),
            summary(&[&[Value::Absent]]),
            summary(&[&[Value::Absent], &[Value::Absent]]),
            summary(&[&[Value::Number(1)]]),
            summary(&[&[Value::Truth(true)]]),
            summary(&[&[text("ab"), text("c")]]),
            summary(&[&[text("a"), text("bc")]]),
            summary(&[&[text("a")], &[text("bc")]]),
            summary(&[&[text("bc")], &[text("a")]]),
            summary(&[&[text("")]]),
            summary(&[&[Value::Bytes(Vec::new())]]),
        ];
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(one, other);
            }
        }
        assert_eq!(all[0].rows, 0);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(all[0].sha256, empty);
    }
}
