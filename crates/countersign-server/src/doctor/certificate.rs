//! When a certificate ends: the one thing that is read out of it here. Whether it is to be believed, the
//! handshake has decided.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER (RFC 5280, 4.1).
pub(super) fn not_after(der: &[u8]) -> Option<Timestamp> {
    let mut certificate = Reader(Reader(der).take(SEQUENCE)?);
    let mut signed = Reader(certificate.take(SEQUENCE)?);
    if signed.next_is(VERSION) {
        signed.take(VERSION)?;
    }
    signed.take(INTEGER)?; // serial number
    signed.take(SEQUENCE)?; // how it is signed
    signed.take(SEQUENCE)?; // by whom
    let mut validity = Reader(signed.take(SEQUENCE)?);
    validity.take_time()?; // notBefore
    validity.take_time()
}

/// Takes values off the front, each a tag, a length and so many bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            // No certificate has more than four bytes of length.
            let bytes = usize::from(first & 0x7f);
            if !(1..=4).contains(&bytes) || rest.len() < bytes {
                return None;
            }
            let (length, rest) = rest.split_at(bytes);
            let length = length
                .iter()
                .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            (length, rest)
        };
        if rest.len() < length {
            return None;
        }
        let (value, rest) = rest.split_at(length);
        self.0 = rest;
        Some(value)
    }

    fn take_time(&mut self) -> Option<Timestamp> {
        let text = if self.next_is(UTC_TIME) {
            let text = std::str::from_utf8(self.take(UTC_TIME)?).ok()?;
            // RFC 5280, 4.1.2.5.1: below 50 it is this century.
            let century = if text.get(..2)?.parse::<u8>().ok()? < 50 {
                "20"
            } else {
                "19"
            };
            format!("{century}{text}")
        } else {
            std::str::from_utf8(self.take(GENERALIZED_TIME)?)
                .ok()?
                .to_owned()
        };
        let civil = DateTime::strptime("%Y%m%d%H%M%S", text.strip_suffix('Z')?).ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(until: (i32, u8, u8)) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let (year, month, day) = until;
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_either_form() {
        // Until 2049 it is a UTCTime, after that a GeneralizedTime.
        for (until, expected) in [
            ((2027, 3, 4), "2027-03-04T00:00:00Z"),
            ((2061, 5, 6), "2061-05-06T00:00:00Z"),
        ] {
            assert_eq!(not_after(&made(until)), Some(expected.parse().unwrap()));
        }
    }

    #[test]
    fn what_is_no_certificate_ends_never_and_breaks_nothing() {
        let whole = made((2027, 3, 4));
        for length in 0..whole.len().min(400) {
            let _no_panic = not_after(&whole[..length]);
        }
        for junk in [
            &b""[..],
            b"0",
            b"0\x84\xff\xff\xff\xff",
            b"0\x80\x00",
            b"0\x03\x02\x01",
        ] {
            assert_eq!(not_after(junk), None);
        }
    }
}
