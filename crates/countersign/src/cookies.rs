//! The cookies: their names, their attributes, and how they are read.

use std::time::Duration;

use axum::http::HeaderMap;
use cookie::{Cookie, SameSite};
use countersign_core::csrf::CsrfToken;
use countersign_core::throttle::{DEVICE_LIFETIME, DeviceToken};
use http::{HeaderValue, header};

use crate::error::ApiError;

/// The refresh cookie's name where the service is reached by https. The prefix keeps sibling hosts
/// and scripts from planting the cookie (draft-ietf-httpbis-layered-cookies); older browsers apply
/// the rules of `__Host-` to it.
pub const HTTPS_REFRESH_NAME: &str = "__Host-Http-refreshtoken";

/// The refresh cookie's name in development, where prefixes do not work.
pub const DEVELOPMENT_REFRESH_NAME: &str = "refreshtoken";

/// The name of the cookie by which a device is known again, where the service is reached by https.
pub const HTTPS_DEVICE_NAME: &str = "__Host-Http-knowndevice";

/// The same in development.
pub const DEVELOPMENT_DEVICE_NAME: &str = "knowndevice";

/// Names and scope of the cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSettings {
    /// Whether the cookies are only sent over https.
    pub secure: bool,
    /// Whether pages of other sites use the service: the cookies become
    /// `SameSite=None; Secure; Partitioned`.
    pub cross_site: bool,
    /// The domain of the CSRF cookie; `None`: this host only. The refresh cookie never has one.
    pub domain: Option<String>,
    /// The refresh cookie's name.
    pub refresh_name: String,
    /// The CSRF cookie's name.
    pub csrf_name: String,
    /// The name of the cookie by which a device is known again.
    pub device_name: String,
}

impl CookieSettings {
    /// What fits a service that is reached by https, or one in development.
    pub fn for_https(https: bool) -> Self {
        let (refresh_name, device_name) = if https {
            (HTTPS_REFRESH_NAME, HTTPS_DEVICE_NAME)
        } else {
            (DEVELOPMENT_REFRESH_NAME, DEVELOPMENT_DEVICE_NAME)
        };
        Self {
            secure: https,
            cross_site: false,
            domain: None,
            refresh_name: refresh_name.to_owned(),
            csrf_name: "csrftoken".to_owned(),
            device_name: device_name.to_owned(),
        }
    }

    /// The `Set-Cookie` that keeps the refresh token where scripts cannot read it.
    pub(crate) fn refresh(&self, token: &str, live: Option<Duration>) -> HeaderValue {
        let cookie = self
            .cookie(&self.refresh_name, token, live)
            .http_only(true)
            .build();
        header_value(&cookie)
    }

    /// The `Set-Cookie` that shows the CSRF token to pages of this site.
    pub(crate) fn csrf(&self, token: &str, live: Option<Duration>) -> HeaderValue {
        let mut cookie = self.cookie(&self.csrf_name, token, live).build();
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain);
        }
        header_value(&cookie)
    }

    /// The `Set-Cookie` by which the device is known again. It outlives the session, which it says nothing
    /// about, and lets nobody in.
    pub(crate) fn device(&self, token: &DeviceToken) -> HeaderValue {
        let cookie = self
            .cookie(&self.device_name, token.as_str(), Some(DEVICE_LIFETIME))
            .http_only(true)
            .build();
        header_value(&cookie)
    }

    /// What a device shows to be known again; `None` if there are two, one of which was planted.
    pub(crate) fn presented_device<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let mut values = presented(headers, &self.device_name);
        let value = std::str::from_utf8(values.next()?).ok()?;
        values.next().is_none().then_some(value)
    }

    /// The `Set-Cookie`s that take the session's two away, with the attributes they were set with.
    pub(crate) fn cleared(&self) -> [HeaderValue; 2] {
        let now = Some(Duration::ZERO);
        [self.refresh("", now), self.csrf("", now)]
    }

    /// The `Set-Cookie` that takes a cookie of the Django site's away: with the path that it was set with
    /// and without a domain, and not partitioned.
    pub(crate) fn cleared_legacy(&self, name: &str) -> HeaderValue {
        let mut builder = Cookie::build((name, ""))
            .path("/")
            .http_only(true)
            .same_site(self.same_site())
            .max_age(cookie::time::Duration::ZERO);
        if self.secure || self.cross_site {
            builder = builder.secure(true);
        }
        header_value(&builder.build())
    }

    fn same_site(&self) -> SameSite {
        match (self.cross_site, self.secure) {
            (true, _) => SameSite::None,
            (false, true) => SameSite::Strict,
            (false, false) => SameSite::Lax,
        }
    }

    fn cookie<'c>(
        &self,
        name: &'c str,
        value: &'c str,
        live: Option<Duration>,
    ) -> cookie::CookieBuilder<'c> {
        let mut builder = Cookie::build((name, value))
            .path("/")
            .same_site(self.same_site());
        if self.secure || self.cross_site {
            builder = builder.secure(true);
        }
        if self.cross_site {
            builder = builder.partitioned(true);
        }
        if let Some(live) = live {
            let seconds = i64::try_from(live.as_secs()).unwrap_or(i64::MAX);
            builder = builder.max_age(cookie::time::Duration::seconds(seconds));
        }
        builder
    }

    /// The refresh token that a request presents.
    ///
    /// Names are compared byte for byte, values are taken as they are, quotes and all.
    ///
    /// # Errors
    /// [`ApiError::Malformed`] if there are two: one of them was planted, and nobody can say which.
    pub(crate) fn presented_refresh<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<&'h str>, ApiError> {
        presented_refresh(headers, &self.refresh_name)
    }

    /// The CSRF cookie that a request presents; two of them are none.
    pub(crate) fn presented_csrf<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let mut values = presented(headers, &self.csrf_name);
        let value = values.next()?;
        let value = std::str::from_utf8(value).ok()?;
        values.next().is_none().then_some(value)
    }

    /// Whether the browser already holds this CSRF token, and only this.
    pub(crate) fn holds_csrf(&self, headers: &HeaderMap, token: &CsrfToken) -> bool {
        let mut values = presented(headers, &self.csrf_name).peekable();
        values.peek().is_some()
            && values.all(|value| std::str::from_utf8(value).is_ok_and(|text| token.matches(text)))
    }
}

/// The refresh token in the one cookie of this name.
///
/// # Errors
/// As [`CookieSettings::presented_refresh`].
pub(crate) fn presented_refresh<'h>(
    headers: &'h HeaderMap,
    name: &str,
) -> Result<Option<&'h str>, ApiError> {
    let mut values = presented(headers, name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::malformed(
            "The request carries two refresh cookies. Clear the site's cookies and sign in again.",
        ));
    }
    // What is not text is no token of ours.
    Ok(Some(std::str::from_utf8(value).unwrap_or_default()))
}

/// The values of all cookies of exactly this name.
fn presented<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let pairs = cookies.flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

fn header_value(cookie: &Cookie<'_>) -> HeaderValue {
    HeaderValue::try_from(cookie.to_string())
        .expect("names are checked when settings are, and tokens are printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Option<Duration> = Some(Duration::from_hours(7 * 24));

    fn presented(cookies: &[&[u8]]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        }
        let settings = CookieSettings::for_https(true);
        settings
            .presented_refresh(&headers)
            .map(|t| t.map(str::to_owned))
            .map_err(|_| ())
    }

    #[test]
    fn development_cookies_are_lax_and_work_over_http() {
        let settings = CookieSettings::for_https(false);
        assert_eq!(
            settings.refresh("T", WEEK),
            "refreshtoken=T; HttpOnly; SameSite=Lax; Path=/; Max-Age=604800"
        );
        assert_eq!(
            settings.csrf("C", WEEK),
            "csrftoken=C; SameSite=Lax; Path=/; Max-Age=604800"
        );
    }

    #[test]
    fn production_cookies_are_strict_secure_and_prefixed() {
        let settings = CookieSettings::for_https(true);
        assert_eq!(
            settings.refresh("T", WEEK),
            "__Host-Http-refreshtoken=T; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=604800"
        );
        assert_eq!(
            settings.csrf("C", WEEK),
            "csrftoken=C; SameSite=Strict; Secure; Path=/; Max-Age=604800"
        );
    }

    #[test]
    fn a_domain_is_given_to_the_csrf_cookie_only() {
        let domain = Some("example.org".to_owned());
        let settings = CookieSettings {
            domain,
            ..CookieSettings::for_https(true)
        };
        assert!(
            !settings
                .refresh("T", WEEK)
                .to_str()
                .unwrap()
                .contains("Domain")
        );
        assert!(
            settings
                .csrf("C", WEEK)
                .to_str()
                .unwrap()
                .contains("; Domain=example.org")
        );
    }

    #[test]
    fn cross_site_cookies_are_partitioned() {
        let settings = CookieSettings {
            cross_site: true,
            ..CookieSettings::for_https(true)
        };
        assert_eq!(
            settings.refresh("T", None),
            "__Host-Http-refreshtoken=T; HttpOnly; SameSite=None; Partitioned; Secure; Path=/"
        );
    }

    #[test]
    fn cookies_are_cleared_with_the_attributes_they_were_set_with() {
        let [refresh, csrf] = CookieSettings::for_https(true).cleared();
        assert_eq!(
            refresh,
            "__Host-Http-refreshtoken=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0"
        );
        assert_eq!(
            csrf,
            "csrftoken=; SameSite=Strict; Secure; Path=/; Max-Age=0"
        );
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = presented(&[b"a=1; __Host-Http-refreshtoken=T; b=2"]);
        assert_eq!(found, Ok(Some("T".to_owned())));
        let found = presented(&[b"a=1", b"__Host-Http-refreshtoken=T=="]);
        assert_eq!(found, Ok(Some("T==".to_owned())));
        assert_eq!(presented(&[]), Ok(None));
    }

    #[test]
    fn look_alikes_are_not_the_cookie() {
        for other in [
            &b"\xe2\x80\x80__Host-Http-refreshtoken=x"[..],
            b"\xc2\xa0__Host-Http-refreshtoken=x",
            b"__host-http-refreshtoken=x",
            b"=__Host-Http-refreshtoken=x",
            b"__Host-Http-refreshtoken",
            b"x__Host-Http-refreshtoken=x",
            b"__Host-Http-refreshtoken =x",
        ] {
            assert_eq!(presented(&[other]), Ok(None), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn two_of_the_cookie_are_refused_wherever_they_stand() {
        let one: &[u8] = b"__Host-Http-refreshtoken=x";
        assert_eq!(presented(&[one, one]), Err(()));
        assert_eq!(
            presented(&[b"__Host-Http-refreshtoken=x; __Host-Http-refreshtoken=y"]),
            Err(())
        );
    }

    #[test]
    fn quotes_are_part_of_the_value() {
        let found = presented(&[b"__Host-Http-refreshtoken=\"a; csrftoken=b\""]);
        assert_eq!(found, Ok(Some("\"a".to_owned())));
    }
}
