//! What a client says that does nothing but refresh.

use crate::load::{Answer, Conversation};

/// A session that is refreshed again and again.
pub(crate) struct Refreshes {
    csrf_token: String,
    request: String,
}

impl Refreshes {
    /// From these tokens on.
    pub(crate) fn of(refresh_token: &str, csrf_token: &str) -> Self {
        let mut refreshes = Self {
            csrf_token: csrf_token.to_owned(),
            request: String::new(),
        };
        refreshes.present(refresh_token);
        refreshes
    }

    fn present(&mut self, refresh_token: &str) {
        let csrf_token = &self.csrf_token;
        self.request = format!(
            "POST /users/refresh_token HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\
             cookie: refreshtoken={refresh_token}; csrftoken={csrf_token}\r\n\
             x-csrftoken: {csrf_token}\r\ncontent-length: 0\r\n\r\n"
        );
    }
}

impl Conversation for Refreshes {
    fn request(&mut self) -> Option<&[u8]> {
        Some(self.request.as_bytes())
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
        let (_, cookie) = answer.head.split_once("set-cookie: refreshtoken=").unwrap();
        let (token, _) = cookie.split_once(';').unwrap();
        assert!(
            !self.request.contains(token),
            "a refresh replaces the token"
        );
        self.present(token);
    }
}
