//! How far two origins are apart, as browsers measure it.

use countersign::Origin;

/// How far a page is from the service that it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distance {
    /// Nothing is between them: neither CORS nor `SameSite` is asked.
    SameOrigin,
    /// Another port or host of one site: CORS is asked, cookies are sent.
    SameSite,
    /// Another site: cookies are sent only if they are `SameSite=None`.
    OtherSite,
}

/// Measures it. A site is a scheme and a registrable domain (HTML, "schemelessly same site" and scheme);
/// where registrable domains begin is on the public suffix list, of which this program holds the state of
/// its release.
pub(super) fn distance(page: &Origin, service: &Origin) -> Distance {
    if page == service {
        Distance::SameOrigin
    } else if page.is_https() == service.is_https() && is_one_site(page.host(), service.host()) {
        Distance::SameSite
    } else {
        Distance::OtherSite
    }
}

fn is_one_site(one: &str, other: &str) -> bool {
    one == other
        || matches!((registrable(one), registrable(other)), (Some(one), Some(other)) if one == other)
}

/// The part of a host name that somebody has registered: `example.co.uk` of `app.example.co.uk`. Neither
/// addresses nor names of one label have one.
pub(super) fn registrable(host: &str) -> Option<&str> {
    let is_address = host.starts_with('[') || host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_address {
        return None;
    }
    psl::domain_str(host)
}

/// The longest name that both hosts end in, and that somebody has registered.
pub(super) fn common_parent<'h>(one: &'h str, other: &str) -> Option<&'h str> {
    let registrable = registrable(one)?;
    let mut candidate = one;
    loop {
        let is_parent_of_other = other == candidate
            || other
                .strip_suffix(candidate)
                .is_some_and(|rest| rest.ends_with('.'));
        if is_parent_of_other {
            return Some(candidate);
        }
        if candidate == registrable {
            return None;
        }
        candidate = candidate.split_once('.')?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_distance(page: &str, service: &str, expected: Distance) {
        let measured = distance(&page.parse().unwrap(), &service.parse().unwrap());
        assert_eq!(measured, expected, "{page} to {service}");
    }

    #[test]
    fn one_origin_is_one_origin() {
        assert_distance(
            "https://a.example",
            "https://a.example",
            Distance::SameOrigin,
        );
    }

    #[test]
    fn ports_and_hosts_of_a_site_are_near() {
        for (page, service) in [
            ("http://localhost:3000", "http://localhost:8000"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:8000"),
            ("https://app.example.org", "https://auth.example.org"),
            ("https://example.org", "https://auth.example.org:8443"),
            ("https://app.example.co.uk", "https://auth.example.co.uk"),
            ("https://a.b.ana.github.io", "https://ana.github.io"),
        ] {
            assert_distance(page, service, Distance::SameSite);
        }
    }

    #[test]
    fn what_strangers_may_register_side_by_side_is_far() {
        for (page, service) in [
            ("http://localhost:3000", "http://127.0.0.1:8000"),
            ("https://example.org", "https://example.net"),
            ("https://ana.co.uk", "https://bob.co.uk"),
            ("https://ana.github.io", "https://bob.github.io"),
            ("https://10.0.0.1", "https://10.0.0.2"),
            ("https://[::1]", "https://[::2]"),
        ] {
            assert_distance(page, service, Distance::OtherSite);
        }
    }

    #[test]
    fn a_page_in_plain_http_is_on_another_site() {
        assert_distance(
            "http://app.example.org",
            "https://app.example.org",
            Distance::OtherSite,
        );
    }

    #[test]
    fn a_common_parent_is_as_long_as_can_be_and_never_public() {
        assert_eq!(
            common_parent("auth.example.org", "app.example.org"),
            Some("example.org")
        );
        assert_eq!(
            common_parent("a.x.example.org", "b.x.example.org"),
            Some("x.example.org")
        );
        assert_eq!(
            common_parent("example.org", "app.example.org"),
            Some("example.org")
        );
        assert_eq!(common_parent("ana.github.io", "bob.github.io"), None);
        assert_eq!(common_parent("localhost", "localhost"), None);
        assert_eq!(common_parent("127.0.0.1", "127.0.0.1"), None);
    }
}
