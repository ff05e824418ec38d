//! The `token` of RFC 9110, section 5.6.2: cookie names and authentication schemes.

/// Whether the text is a token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
