//! The cookies, as they arrive.

use countersign::CookieSettings;

use super::answer::Answer;
use super::finding::Finding;

/// What is to arrive.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// Whether the service is reached by https.
    pub(super) is_https: bool,
    /// Whether the page is on another site.
    pub(super) is_crossing: bool,
    /// The settings' names, or the default ones.
    pub(super) refresh_name: String,
    pub(super) csrf_name: String,
}

impl Expected {
    pub(super) fn new(
        is_https: bool,
        is_crossing: bool,
        settings: Option<&CookieSettings>,
    ) -> Self {
        let default = CookieSettings::for_https(is_https);
        let settings = settings.unwrap_or(&default);
        Self {
            is_https,
            is_crossing,
            refresh_name: settings.refresh_name.clone(),
            csrf_name: settings.csrf_name.clone(),
        }
    }
}

/// A `Set-Cookie`, taken apart.
#[derive(Debug)]
struct SetCookie<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> SetCookie<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.split(';');
        let (name, _) = parts.next()?.split_once('=')?;
        let attributes = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.trim(), value.trim())
        });
        Some(Self {
            name: name.trim(),
            attributes: attributes.collect(),
        })
    }

    fn attribute(&self, name: &str) -> Option<&'a str> {
        let mut found = self
            .attributes
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }
}

/// The value of the cookie of this name.
pub(super) fn value<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.all("set-cookie").find_map(|line| {
        let (own, rest) = line.split_once('=')?;
        (own == name).then(|| rest.split(';').next().unwrap_or_default())
    })
}

/// An answer that sets, or clears, both cookies of the session.
pub(super) fn both(expected: &Expected, answer: &Answer) -> Vec<Finding> {
    const COUNT: &str = "cookies.arrive";
    let lines: Vec<_> = answer.all("set-cookie").collect();
    if let Some(folded) = lines.iter().find(|line| is_folded(line)) {
        return vec![Finding::fail(
            COUNT,
            format!(
                "several cookies arrive in one Set-Cookie, {} bytes long: browsers keep the first",
                folded.len()
            ),
            "a proxy joins the headers: Set-Cookie must not be (RFC 9110, 5.3)",
        )];
    }
    let cookies: Vec<_> = lines
        .iter()
        .filter_map(|line| SetCookie::parse(line))
        .collect();
    let names = [expected.refresh_name.as_str(), expected.csrf_name.as_str()];
    if let Some(name) = names.iter().find(|name| {
        cookies
            .iter()
            .filter(|cookie| cookie.name == **name)
            .count()
            > 1
    }) {
        return vec![Finding::fail(
            COUNT,
            format!(
                "{name} arrives twice: with different Path or Domain the browser keeps both, and sends both"
            ),
            "have nothing in front of the service set or copy its cookies; those that browsers hold are \
             gone when the site's data is cleared",
        )];
    }
    let find = |name: &str| cookies.iter().find(|cookie| cookie.name == name);
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| find(name).is_none())
        .collect();
    if !missing.is_empty() {
        let others: Vec<_> = cookies
            .iter()
            .map(|cookie| super::answer::printable(cookie.name))
            .collect();
        let came = if others.is_empty() {
            "none".to_owned()
        } else {
            others.join(", ")
        };
        return vec![Finding::fail(
            COUNT,
            format!("{} did not arrive; what did: {came}", missing.join(" and ")),
            "a proxy drops or renames Set-Cookie; or the service has other settings than these \
             (cookies.refresh_name, cookies.csrf_name)",
        )];
    }
    let mut findings = vec![Finding::pass(
        COUNT,
        format!("{} and {}, one header each", names[0], names[1]),
    )];
    if let (Some(refresh), Some(csrf)) = (find(names[0]), find(names[1])) {
        findings.push(attributes("cookies.refresh", refresh, expected, true));
        findings.push(attributes("cookies.csrf", csrf, expected, false));
    }
    findings
}

/// Whether a second cookie begins inside of one line: a comma, and a name with `=`, after an attribute. The
/// comma in a date is followed by a blank and a number.
fn is_folded(line: &str) -> bool {
    let Some((_, attributes)) = line.split_once(';') else {
        return line.contains(", ");
    };
    attributes.split(',').skip(1).any(|rest| {
        let start = rest.split(';').next().unwrap_or_default();
        start
            .split_once('=')
            .is_some_and(|(name, _)| !name.trim().is_empty() && !name.trim().contains(' '))
    })
}

fn attributes(
    check: &'static str,
    cookie: &SetCookie<'_>,
    expected: &Expected,
    is_refresh: bool,
) -> Finding {
    let mut wrong = Vec::new();
    if expected.is_https && !cookie.has("secure") {
        wrong.push("Secure is missing, so it travels in the clear, and with a prefix in its name browsers refuse it");
    }
    if is_refresh && !cookie.has("httponly") {
        wrong.push("HttpOnly is missing: scripts can read it");
    }
    if !is_refresh && cookie.has("httponly") {
        wrong.push("HttpOnly is there, so that the page cannot read it");
    }
    if cookie.attribute("path") != Some("/") {
        wrong.push("Path is not /");
    }
    let is_host_bound = cookie
        .name
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("__Host-"));
    if (is_refresh || is_host_bound) && cookie.has("domain") {
        wrong.push("Domain is there: other hosts of the domain are sent it");
    }
    let same_site = cookie
        .attribute("samesite")
        .unwrap_or_default()
        .to_ascii_lowercase();
    match (same_site.as_str(), expected.is_crossing) {
        ("none", true) if !cookie.has("partitioned") => {
            wrong.push("Partitioned is missing: browsers that refuse third-party cookies drop it");
        }
        ("none", true) | ("lax" | "strict", false) => {}
        (_, true) => {
            wrong.push("SameSite is not None, so pages of another site get nowhere with it");
        }
        ("none", false) => wrong.push("SameSite is None, though page and service are one site"),
        (_, false) => wrong.push("SameSite is missing: what then holds depends on the browser"),
    }
    let attributes: Vec<_> = cookie
        .attributes
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("max-age"))
        .map(|(name, value)| {
            if value.is_empty() {
                (*name).to_owned()
            } else {
                format!("{name}={value}")
            }
        })
        .collect();
    let seen = format!(
        "{}: {}",
        cookie.name,
        super::answer::printable(&attributes.join("; "))
    );
    if wrong.is_empty() {
        return Finding::pass(check, seen);
    }
    let seen = format!("{seen}. {}", wrong.join(". "));
    let remedy = if expected.is_crossing && !expected.is_https {
        "https first, or one host name for page and service: browsers send no cookie to another site by http"
    } else if expected.is_crossing {
        "cookies.cross_site = true; if it is, a proxy rewrites Set-Cookie (in nginx: proxy_cookie_flags, \
         proxy_cookie_domain, proxy_cookie_path)"
    } else {
        "a proxy rewrites Set-Cookie (in nginx: proxy_cookie_flags, proxy_cookie_domain, \
         proxy_cookie_path), or the service runs with other settings"
    };
    Finding::fail(check, seen, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::answer;
    use super::super::finding::Outcome::{self, Fail, Pass};
    use super::*;

    const REFRESH: &str =
        "__Host-Http-refreshtoken=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0";
    const CSRF: &str = "csrftoken=; SameSite=Strict; Secure; Path=/; Max-Age=0";

    fn look(is_crossing: bool, lines: &[&str]) -> Vec<Finding> {
        let expected = Expected::new(true, is_crossing, None);
        let headers: Vec<_> = lines.iter().map(|line| ("set-cookie", *line)).collect();
        both(&expected, &answer(204, &headers, ""))
    }

    fn found(is_crossing: bool, lines: &[&str]) -> Vec<(&'static str, Outcome)> {
        let findings = look(is_crossing, lines);
        let pairs = findings
            .iter()
            .map(|finding| (finding.check, finding.outcome));
        pairs.collect()
    }

    #[test]
    fn what_the_service_sets_is_good() {
        let all_good = [
            ("cookies.arrive", Pass),
            ("cookies.refresh", Pass),
            ("cookies.csrf", Pass),
        ];
        assert_eq!(found(false, &[REFRESH, CSRF]), all_good);
        let crossing = [REFRESH, CSRF]
            .map(|line| line.replace("SameSite=Strict", "SameSite=None; Partitioned"));
        assert_eq!(found(true, &[&crossing[0], &crossing[1]]), all_good);
        let domain = format!("{CSRF}; Domain=example.org");
        assert_eq!(found(false, &[REFRESH, &domain]), all_good);
    }

    #[test]
    fn folded_cookies_are_known_from_dates() {
        for between in [", ", ","] {
            let folded = format!("{REFRESH}{between}{CSRF}");
            let [finding] = &look(false, &[&folded])[..] else {
                panic!("the attributes of what is folded say nothing")
            };
            assert!(finding.seen.contains("in one Set-Cookie"), "{finding:?}");
        }
        let dated = format!("{REFRESH}; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(found(false, &[&dated, CSRF])[0], ("cookies.arrive", Pass));
    }

    #[test]
    fn two_of_a_name_are_one_too_many() {
        let planted = "__Host-Http-refreshtoken=; HttpOnly; Secure; Path=/users";
        let [finding] = &look(false, &[REFRESH, CSRF, planted])[..] else {
            panic!("which of the two it would be about, nobody knows")
        };
        assert!(
            finding.outcome == Fail && finding.seen.contains("arrives twice"),
            "{finding:?}"
        );
    }

    #[test]
    fn one_that_is_lost_is_missed() {
        assert_eq!(found(false, &[REFRESH]), [("cookies.arrive", Fail)]);
        assert_eq!(found(false, &[]), [("cookies.arrive", Fail)]);
    }

    #[test]
    fn each_attribute_is_looked_at() {
        for (from, to) in [
            ("; Secure", ""),
            ("HttpOnly; ", ""),
            ("Path=/", "Path=/users"),
            ("Path=/", "Path=/; Domain=example.org"),
            ("SameSite=Strict; ", ""),
            ("SameSite=Strict", "SameSite=None"),
        ] {
            let changed = REFRESH.replace(from, to);
            assert_ne!(changed, REFRESH);
            assert_eq!(
                found(false, &[&changed, CSRF])[1],
                ("cookies.refresh", Fail),
                "{changed}"
            );
        }
        let hidden = format!("{CSRF}; HttpOnly");
        assert_eq!(found(false, &[REFRESH, &hidden])[2], ("cookies.csrf", Fail));
    }

    #[test]
    fn another_site_needs_none_and_partitioned() {
        let without = REFRESH.replace("SameSite=Strict", "SameSite=None");
        assert_eq!(
            found(true, &[&without, CSRF])[1..],
            [("cookies.refresh", Fail), ("cookies.csrf", Fail)]
        );
    }
}
