//! base64url without padding, read strictly ([RFC 7515, section 2]).
//!
//! One value has one spelling here: padding, whitespace, characters of plain base64 and non-zero
//! bits after the last byte are refused, so that no token can be rewritten and stay valid.
//!
//! [RFC 7515, section 2]: https://www.rfc-editor.org/rfc/rfc7515#section-2

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What is decoded on the stack by [`with_decoded`]. Our payloads have about 350 bytes; the few
/// that are larger cost an allocation rather than every call the clearing of a larger buffer.
const STACK_BYTES: usize = 1024;

/// The text is not canonical base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not base64url without padding")]
pub struct Base64Error;

/// Encodes `bytes`.
///
/// ```
/// assert_eq!(countersign_token::base64url::encode(&[0xfb, 0xff]), "-_8");
/// ```
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Encodes `bytes` and appends the text to `text`.
pub fn encode_into(bytes: &[u8], text: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// Encodes 32 bytes, such as a SHA-256 digest, without allocation.
pub(crate) fn encode_32(bytes: &[u8; 32]) -> [u8; 43] {
    let mut text = [0; 43];
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
    debug_assert_eq!(written, Ok(43), "32 bytes are 43 characters");
    text
}

/// How many characters `bytes` bytes become.
#[must_use]
pub const fn encoded_len(bytes: usize) -> usize {
    bytes / 3 * 4 + (bytes % 3 * 4).div_ceil(3)
}

/// Decodes `text`.
///
/// # Errors
///
/// [`Base64Error`] if `text` has padding, whitespace, a character outside the URL-safe alphabet, a
/// length that no number of bytes has, or stray bits after the last byte.
pub fn decode(text: &str) -> Result<Vec<u8>, Base64Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Base64Error)
}

/// Decodes `text` to the front of `buffer` and returns that part.
///
/// # Errors
///
/// As [`decode`]; and if `buffer` is too short.
pub fn decode_into<'b>(text: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], Base64Error> {
    let length = URL_SAFE_NO_PAD
        .decode_slice(text, buffer)
        .map_err(|_| Base64Error)?;
    buffer.get(..length).ok_or(Base64Error)
}

/// Decodes `text` on the stack, or on the heap where it is long, and hands the bytes to `read`.
pub(crate) fn with_decoded<R>(text: &str, read: impl FnOnce(&[u8]) -> R) -> Result<R, Base64Error> {
    if text.len() <= encoded_len(STACK_BYTES) {
        decode_into(text, &mut [0; STACK_BYTES]).map(read)
    } else {
        decode(text).map(|bytes| read(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_decoded() {
        for length in 0..100_u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(197)).collect();
            let text = encode(&bytes);
            assert_eq!(text.len(), encoded_len(bytes.len()));
            assert_eq!(decode(&text).unwrap(), bytes);
        }
    }

    #[test]
    fn rfc_4648_examples_in_the_url_alphabet() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(encode(&[0xff, 0xef, 0xfe]), "_-_-");
    }

    #[test]
    fn a_second_spelling_of_the_same_bytes_is_refused() {
        for (sloppy, why) in [
            ("Zg==", "padding"),
            ("Zg=", "half the padding"),
            ("Zh", "stray bits after the last byte"),
            ("Zm9", "stray bits after the last byte"),
            ("Z", "a length that no bytes have"),
            ("Zm9vY", "a length that no bytes have"),
            (" Zg", "leading space"),
            ("Zg\n", "trailing line feed"),
            ("Z\0g", "a NUL"),
            ("_+_-", "a character of plain base64"),
            ("_/_-", "a character of plain base64"),
            ("Zm9v.", "a dot"),
            ("Zm9vé", "not ASCII"),
        ] {
            assert_eq!(decode(sloppy), Err(Base64Error), "{why}: {sloppy:?}");
            assert_eq!(
                decode_into(sloppy, &mut [0; 64]),
                Err(Base64Error),
                "{why}: {sloppy:?}"
            );
        }
    }

    #[test]
    fn a_buffer_of_just_the_right_size_suffices() {
        let signature = encode(&[7; 64]);
        assert_eq!(decode_into(&signature, &mut [0; 64]).unwrap(), [7; 64]);
        assert_eq!(decode_into(&signature, &mut [0; 63]), Err(Base64Error));
    }

    #[test]
    fn long_texts_are_decoded_as_short_ones_are() {
        for length in [
            0,
            1,
            STACK_BYTES - 1,
            STACK_BYTES,
            STACK_BYTES + 1,
            5 * STACK_BYTES,
        ] {
            let bytes = vec![0xa5; length];
            assert_eq!(
                with_decoded(&encode(&bytes), <[u8]>::to_vec).unwrap(),
                bytes
            );
        }
    }

    #[test]
    fn a_digest_is_43_characters() {
        assert_eq!(
            encode_32(&[0xff; 32]).as_slice(),
            encode(&[0xff; 32]).as_bytes()
        );
    }
}
