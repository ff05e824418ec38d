//! What a client is, as far as it says so itself, in words of ours.
//!
//! A user agent is whatever its sender wrote. In a mail to the owner of an account it would be a stranger's
//! text under our name: a number to call, a page to open. So nothing of it is quoted; what is known among it is
//! named.

use std::fmt;

/// One of a few words, each with what it is known by and how it is shown.
macro_rules! words {
    ($(#[doc = $about:literal])* $name:ident: $($word:ident $code:literal $shown:literal [$($mark:literal),+];)*) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $(#[doc = $shown] $word),* }

        impl $name {
            /// Every word; what says more comes first.
            pub const ALL: &'static [Self] = &[$(Self::$word),*];

            /// The stable word for it.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$word => $code),* }
            }

            /// How people know it.
            pub const fn shown(self) -> &'static str {
                match self { $(Self::$word => $shown),* }
            }

            /// By its stable word.
            pub fn of_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.code() == code)
            }

            fn of_user_agent(text: &str) -> Option<Self> {
                let has = |word: &Self| match word {
                    $(Self::$word => [$($mark),+].iter().any(|mark| text.contains(mark))),*
                };
                Self::ALL.iter().copied().find(has)
            }
        }
    };
}

words! {
    /// A browser, or another program that is often met.
    Program:
    Edge "edge" "Edge" ["Edg/", "EdgA/", "EdgiOS/"];
    Opera "opera" "Opera" ["OPR/", "OPiOS/"];
    SamsungInternet "samsung_internet" "Samsung Internet" ["SamsungBrowser/"];
    Firefox "firefox" "Firefox" ["Firefox/", "FxiOS/"];
    Chrome "chrome" "Chrome" ["Chrome/", "CriOS/", "Chromium/"];
    Safari "safari" "Safari" ["Safari/"];
    Curl "curl" "curl" ["curl/"];
    Python "python" "a Python program" ["python-requests/", "Python-urllib/", "python-httpx/", "aiohttp/"];
    Java "java" "a Java program" ["okhttp/", "Java/", "Java-http-client/"];
    Go "go" "a Go program" ["Go-http-client/"];
    Node "node" "a Node program" ["node-fetch", "axios/", "undici"];
}

words! {
    /// What it runs on.
    System:
    IPhone "iphone" "an iPhone" ["iPhone"];
    IPad "ipad" "an iPad" ["iPad"];
    Android "android" "Android" ["Android"];
    Windows "windows" "Windows" ["Windows"];
    ChromeOs "chrome_os" "ChromeOS" ["CrOS"];
    MacOs "macos" "macOS" ["Macintosh", "Mac OS X"];
    Linux "linux" "Linux" ["Linux", "X11"];
}

/// What a client is, as far as it says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Client {
    /// Which program.
    pub program: Option<Program>,
    /// On what.
    pub system: Option<System>,
}

impl Client {
    /// What this user agent names of what we know.
    pub fn of_user_agent(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default();
        Self {
            program: Program::of_user_agent(text),
            system: System::of_user_agent(text),
        }
    }
}

/// `Firefox on Linux`; without any letter that a client chose.
impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.map_or("an unknown program", Program::shown);
        match self.system {
            Some(system) => write!(formatter, "{program} on {}", system.shown()),
            None => formatter.write_str(program),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(user_agent: &str) -> String {
        Client::of_user_agent(Some(user_agent)).to_string()
    }

    #[test]
    fn what_people_use_is_named() {
        for (user_agent, expected) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/141.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, \
                 like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
                "Safari on an iPhone",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like \
                 Gecko) Version/18.6 Safari/605.1.15",
                "Safari on macOS",
            ),
            ("curl/8.14.1", "curl"),
            ("python-requests/2.34.2", "a Python program"),
        ] {
            assert_eq!(shown(user_agent), expected);
        }
    }

    #[test]
    fn nothing_that_a_client_writes_is_quoted() {
        for hostile in [
            "",
            "Your account is locked, call +1 555 0100",
            "Firefox-Support https://evil.example/",
            "<script>alert(1)</script>\r\nBcc: eva@example.org",
        ] {
            assert_eq!(shown(hostile), "an unknown program");
        }
        assert_eq!(
            shown("https://evil.example Firefox/1 Linux"),
            "Firefox on Linux"
        );
        assert_eq!(
            Client::of_user_agent(None).to_string(),
            "an unknown program"
        );
    }

    #[test]
    fn a_code_is_read_as_it_was_written() {
        for program in Program::ALL {
            assert_eq!(Program::of_code(program.code()), Some(*program));
        }
        for system in System::ALL {
            assert_eq!(System::of_code(system.code()), Some(*system));
        }
        assert_eq!(Program::of_code("Firefox"), None);
    }
}
