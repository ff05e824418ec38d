//! Which settings fit a page and a service, and whether those in force do.

use std::fmt::Write as _;

use countersign::{HttpSettings, Origin};

use super::finding::Finding;
use super::site::{self, Distance};

/// Who talks to whom.
#[derive(Debug, Clone)]
pub(crate) struct Parties {
    /// The page.
    pub(crate) page: Origin,
    /// Where the page finds the service.
    pub(crate) service: Origin,
    /// An API of one's own that verifies the tokens, if it is not the service's origin.
    pub(crate) api: Option<Origin>,
}

/// Says how far page and service are apart, whether that can work, and what it means.
pub(crate) fn on_distance(parties: &Parties) -> Vec<Finding> {
    let Parties { page, service, api } = parties;
    let mut findings = vec![of_distance(page, service)];
    if let Some(api) = api {
        findings.push(of_api(page, api));
    }
    findings
}

fn of_distance(page: &Origin, service: &Origin) -> Finding {
    const CHECK: &str = "origins.distance";
    match site::distance(page, service) {
        Distance::SameOrigin => Finding::pass(
            CHECK,
            format!("{page} is page and service in one: no CORS, and cookies stay where they are"),
        ),
        Distance::SameSite => Finding::pass(
            CHECK,
            format!(
                "{page} and {service} are one site: cookies of SameSite=Strict are sent, and the \
                 page must be listed for CORS"
            ),
        ),
        Distance::OtherSite if page.is_loopback() && service.is_loopback() => Finding::fail(
            CHECK,
            format!("{page} and {service} are different hosts to a browser, so no cookie is sent"),
            format!(
                "call both by one name: http://localhost{} from the page",
                port_of(service)
            ),
        ),
        Distance::OtherSite if !service.is_https() => Finding::fail(
            CHECK,
            format!("{page} is on another site than {service}, and such cookies need https"),
            "serve the service by https, or bring both under one domain",
        ),
        Distance::OtherSite if !page.is_https() => Finding::fail(
            CHECK,
            format!(
                "{page} is plain http: to a browser that is another site, and one anybody on the way can change"
            ),
            format!("serve the page by https: https://{}", page.host()),
        ),
        Distance::OtherSite => Finding::warn(
            CHECK,
            format!(
                "{page} is on another site than {service}: its cookies are third-party ones, which \
                 browsers keep apart for each site (Partitioned) or not at all"
            ),
            format!(
                "better bring the service under the page's domain, such as https://auth.{}; \
                 otherwise set cookies.cross_site",
                site::registrable(page.host()).unwrap_or(page.host())
            ),
        ),
    }
}

fn port_of(origin: &Origin) -> &str {
    origin
        .authority()
        .strip_prefix(origin.host())
        .unwrap_or_default()
}

/// An API is shown the token in a header, so cookies do not matter; what it answers across origins does.
fn of_api(page: &Origin, api: &Origin) -> Finding {
    const CHECK: &str = "origins.api";
    if page == api {
        return Finding::pass(
            CHECK,
            format!("{api} is the page's own origin: it needs no CORS"),
        );
    }
    if page.is_https() && !api.is_https() && !api.is_loopback() {
        return Finding::fail(
            CHECK,
            format!("{api} is plain http, and browsers let no https page call it"),
            format!("serve the API by https: https://{}", api.host()),
        );
    }
    Finding::pass(
        CHECK,
        format!(
            "{api} is shown the token in a header, and needs no cookies: have it answer {page} with \
             Access-Control-Allow-Origin: {page}, Access-Control-Allow-Headers: authorization, \
             content-type, x-csrftoken and Vary: Origin; and give its origin to the client \
             (createClient({{ url, apis: [\"{api}\"] }}))"
        ),
    )
}

/// The origins by which page and service can work together, if these cannot: one name where both are this
/// machine, and https where cookies need it or the world is between them.
fn workable(parties: &Parties) -> (Origin, Origin) {
    let Parties { page, service, .. } = parties;
    let mut service = service.clone();
    if page.is_loopback() && service.is_loopback() && page.host() != service.host() {
        let scheme = if service.is_https() { "https" } else { "http" };
        let one_name = format!("{scheme}://{}{}", page.host(), port_of(&service));
        service = one_name.parse().unwrap_or(service);
    }
    let is_apart = site::distance(page, &service) == Distance::OtherSite;
    if is_apart || !service.is_loopback() {
        service = by_https(&service);
    }
    let page = if service.is_https() && !page.is_loopback() {
        by_https(page)
    } else {
        page.clone()
    };
    (page, service)
}

/// The same by https. A port of this machine stays; elsewhere that of plain http is none of https.
fn by_https(origin: &Origin) -> Origin {
    if origin.is_https() {
        return origin.clone();
    }
    let authority = if origin.is_loopback() {
        origin.authority()
    } else {
        origin.host()
    };
    let https = format!("https://{authority}").parse();
    https.unwrap_or_else(|_| origin.clone())
}

/// The lines of countersign.toml that fit.
pub(crate) fn lines(parties: &Parties) -> String {
    let (page, service) = workable(parties);
    let distance = site::distance(&page, &service);
    let mut text = "[server]\n".to_owned();
    if service.is_https() && !parties.service.is_https() {
        text.push_str(
            "# https comes first: set tls.cert and tls.key here, or trusted_proxies to the proxy that \
             ends TLS\n",
        );
    }
    writeln!(text, "public_url = \"{service}\"").expect("a String takes everything");
    if distance != Distance::SameOrigin {
        write!(text, "\n[cors]\norigins = [\"{page}\"]\n").expect("a String takes everything");
    }
    if distance == Distance::OtherSite {
        text.push_str("\n[cookies]\ncross_site = true\n");
    }
    text
}

/// Compares the settings in force with what fits.
pub(crate) fn on_settings(parties: &Parties, http: &HttpSettings) -> Vec<Finding> {
    let Parties { page, service, .. } = parties;
    let distance = site::distance(page, service);
    vec![
        of_public_url(service, http),
        of_list(parties, distance, http),
        of_cross_site(parties, distance, http),
        of_domain(page, http),
        of_csrf(http),
    ]
}

fn of_public_url(service: &Origin, http: &HttpSettings) -> Finding {
    const CHECK: &str = "settings.public_url";
    let public_url = &http.public_url;
    let is_development_alias =
        http.is_development() && service.is_loopback() && port_of(service) == port_of(public_url);
    if public_url == service || is_development_alias {
        return Finding::pass(CHECK, format!("server.public_url is {public_url}"));
    }
    Finding::fail(
        CHECK,
        format!("server.public_url is {public_url}, and the page calls {service}"),
        format!("server.public_url = \"{service}\", or have the page call {public_url}"),
    )
}

fn of_list(parties: &Parties, distance: Distance, http: &HttpSettings) -> Finding {
    const CHECK: &str = "settings.cors_origins";
    let page = &parties.page;
    let is_listed = http.allowed_origins.contains(page);
    match (distance, is_listed) {
        (Distance::SameOrigin, _) => Finding::pass(
            CHECK,
            "the page is the service's own and need not be listed",
        ),
        (_, true) => Finding::pass(CHECK, format!("cors.origins lists {page}")),
        (_, false) => {
            let mut all: Vec<_> = http.allowed_origins.iter().map(Origin::as_str).collect();
            if http.is_development() {
                all.clear(); // the development servers' are there only while nothing is listed
            }
            let (workable, _) = workable(parties);
            all.push(workable.as_str());
            let all: Vec<_> = all.iter().map(|origin| format!("\"{origin}\"")).collect();
            Finding::fail(
                CHECK,
                format!("cors.origins does not list {page}: its requests are refused"),
                format!("cors.origins = [{}]", all.join(", ")),
            )
        }
    }
}

fn of_cross_site(parties: &Parties, distance: Distance, http: &HttpSettings) -> Finding {
    const CHECK: &str = "settings.cross_site";
    match (distance, http.cookies.cross_site) {
        (Distance::OtherSite, true) => Finding::pass(
            CHECK,
            "cookies.cross_site is true: SameSite=None; Secure; Partitioned",
        ),
        (Distance::OtherSite, false) => Finding::fail(
            CHECK,
            "cookies.cross_site is false, so no cookie reaches the service from another site",
            crossing(parties),
        ),
        (_, true) => Finding::warn(
            CHECK,
            "cookies.cross_site is true, and this page is on the same site: SameSite protects less \
             than it could",
            "cookies.cross_site = false, unless another page needs it",
        ),
        (_, false) => Finding::pass(CHECK, "cookies.cross_site is false, as fits one site"),
    }
}

/// What makes cookies arrive from where none does. `cookies.cross_site` is refused without https.
fn crossing(parties: &Parties) -> String {
    let (page, service) = workable(parties);
    let needs_crossing = site::distance(&page, &service) == Distance::OtherSite;
    match (service == parties.service, needs_crossing) {
        (true, true) => "cookies.cross_site = true".to_owned(),
        (_, false) => format!("server.public_url = \"{service}\", and have the page call that"),
        (false, true) => format!(
            "https first: server.public_url = \"{service}\"; then cookies.cross_site = true"
        ),
    }
}

fn of_domain(page: &Origin, http: &HttpSettings) -> Finding {
    const CHECK: &str = "settings.cookie_domain";
    let service = http.public_url.host();
    match &http.cookies.domain {
        None if page.host() == service => Finding::pass(
            CHECK,
            "the page reads the CSRF cookie, as they share a host",
        ),
        None => Finding::pass(
            CHECK,
            match site::common_parent(service, page.host()) {
                Some(parent) => format!(
                    "the page cannot read the CSRF cookie: it takes csrf_token from the body, or asks \
                     GET /users/csrf. (cookies.domain = \"{parent}\" would let it, and every other \
                     host there)"
                ),
                None => {
                    "the page cannot read the CSRF cookie: it takes csrf_token from the body, or \
                         asks GET /users/csrf"
                        .to_owned()
                }
            },
        ),
        Some(domain) => {
            let host = page.host();
            let is_within = host == domain
                || host
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
            if is_within {
                Finding::pass(
                    CHECK,
                    format!("cookies.domain is {domain}, which {host} is in"),
                )
            } else {
                Finding::warn(
                    CHECK,
                    format!("cookies.domain is {domain}, and {host} is not in it"),
                    "leave cookies.domain out: this page gains nothing by it",
                )
            }
        }
    }
}

fn of_csrf(http: &HttpSettings) -> Finding {
    const CHECK: &str = "settings.csrf";
    if http.csrf_for_bearer {
        return Finding::pass(CHECK, "every unsafe request must show X-CSRFToken");
    }
    Finding::warn(
        CHECK,
        "csrf.require_for_bearer is false, and a page calls this service",
        "csrf.require_for_bearer = true",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use crate::config::Settings;

    use super::*;

    fn parties(page: &str, service: &str) -> Parties {
        Parties {
            page: page.parse().unwrap(),
            service: service.parse().unwrap(),
            api: None,
        }
    }

    fn settings(service: &str, origins: &[&str]) -> HttpSettings {
        HttpSettings {
            allowed_origins: origins.iter().map(|text| text.parse().unwrap()).collect(),
            ..HttpSettings::new(service.parse().unwrap())
        }
    }

    fn outcomes(findings: &[Finding]) -> Vec<(&str, Outcome)> {
        let not_good = findings
            .iter()
            .filter(|finding| finding.outcome != Outcome::Pass);
        not_good
            .map(|finding| (finding.check, finding.outcome))
            .collect()
    }

    const APP: &str = "https://app.example.org";
    const AUTH: &str = "https://auth.example.org";

    #[test]
    fn a_sibling_needs_to_be_listed_and_nothing_else() {
        let sibling = parties(APP, AUTH);
        assert_eq!(outcomes(&on_distance(&sibling)), []);
        assert_eq!(
            outcomes(&on_settings(&sibling, &settings(AUTH, &[APP]))),
            []
        );
        let unlisted = on_settings(&sibling, &settings(AUTH, &["https://admin.example.org"]));
        assert_eq!(
            outcomes(&unlisted),
            [("settings.cors_origins", Outcome::Fail)]
        );
        assert_eq!(
            unlisted[1].remedy.as_deref(),
            Some("cors.origins = [\"https://admin.example.org\", \"https://app.example.org\"]")
        );
        assert_eq!(
            lines(&sibling),
            "[server]\npublic_url = \"https://auth.example.org\"\n\n[cors]\norigins = [\"https://app.example.org\"]\n"
        );
    }

    #[test]
    fn a_page_of_the_services_own_needs_nothing() {
        let one = parties(AUTH, AUTH);
        assert_eq!(outcomes(&on_settings(&one, &settings(AUTH, &[]))), []);
        assert_eq!(
            lines(&one),
            "[server]\npublic_url = \"https://auth.example.org\"\n"
        );
    }

    #[test]
    fn another_site_needs_cross_site_cookies_and_is_warned_of() {
        let far = parties("https://app.example.net", AUTH);
        assert_eq!(
            outcomes(&on_distance(&far)),
            [("origins.distance", Outcome::Warn)]
        );
        let listed = settings(AUTH, &["https://app.example.net"]);
        assert_eq!(
            outcomes(&on_settings(&far, &listed)),
            [("settings.cross_site", Outcome::Fail)]
        );
        let mut crossing = listed;
        crossing.cookies.cross_site = true;
        assert_eq!(outcomes(&on_settings(&far, &crossing)), []);
        assert!(
            lines(&far).ends_with("[cookies]\ncross_site = true\n"),
            "{}",
            lines(&far)
        );
    }

    #[test]
    fn cross_site_cookies_for_one_site_are_too_much() {
        let mut crossing = settings(AUTH, &[APP]);
        crossing.cookies.cross_site = true;
        let found = on_settings(&parties(APP, AUTH), &crossing);
        assert_eq!(outcomes(&found), [("settings.cross_site", Outcome::Warn)]);
    }

    #[test]
    fn two_names_of_this_machine_are_told_apart() {
        let found = on_distance(&parties("http://localhost:3000", "http://127.0.0.1:8000"));
        assert_eq!(outcomes(&found), [("origins.distance", Outcome::Fail)]);
        let remedy = found[0].remedy.as_deref().unwrap();
        assert!(remedy.contains("http://localhost:8000"), "{remedy}");
    }

    #[test]
    fn two_names_of_this_machine_become_one_without_crossing() {
        let two = parties("http://localhost:3000", "http://127.0.0.1:8000");
        assert_eq!(
            lines(&two),
            "[server]\npublic_url = \"http://localhost:8000\"\n\n[cors]\norigins = [\"http://localhost:3000\"]\n"
        );
        let listed = settings("http://127.0.0.1:8000", &["http://localhost:3000"]);
        let found = on_settings(&two, &listed);
        assert_eq!(
            outcomes(&found),
            [("settings.cross_site", Outcome::Fail)],
            "{found:?}"
        );
        let remedy = found[2].remedy.as_deref().unwrap();
        assert!(
            remedy.contains("http://localhost:8000") && !remedy.contains("cross_site"),
            "{remedy}"
        );
    }

    #[test]
    fn another_site_is_crossed_by_https_only() {
        let plain = parties("https://app.example.net", "http://auth.example.org:8000");
        let text = lines(&plain);
        assert!(
            text.contains("public_url = \"https://auth.example.org\"")
                && text.contains("# https comes first"),
            "{text}"
        );
        let listed = settings("http://auth.example.org:8000", &["https://app.example.net"]);
        let found = on_settings(&plain, &listed);
        let remedy = found[2].remedy.as_deref().unwrap();
        assert!(remedy.starts_with("https first"), "{remedy}");
    }

    /// Whichever page calls whichever service, the lines are settings with which the service starts, once
    /// something ends TLS where they say https.
    #[test]
    fn no_lines_are_refused_by_the_settings() {
        let origins = [
            "http://localhost:3000",
            "http://127.0.0.1:8000",
            "http://[::1]:8000",
            "https://localhost:3000",
            "https://127.0.0.1:8443",
            "http://app.example.org",
            "http://auth.example.org:8000",
            APP,
            AUTH,
            "https://app.example.net",
        ];
        for (page, service) in origins
            .iter()
            .flat_map(|page| origins.iter().map(move |service| (page, service)))
        {
            let text = lines(&parties(page, service));
            let has_proxy = text.contains("public_url = \"https:");
            let proxy = "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n";
            let whole = if has_proxy {
                text.replace("[server]\n", proxy)
            } else {
                text.clone()
            };
            let place = tempfile::tempdir().unwrap();
            let file = place.path().join("countersign.toml");
            std::fs::write(&file, whole).unwrap();
            if let Err(problems) = Settings::load_file_alone(file) {
                panic!("{page} and {service}: {text}\n{problems}");
            }
        }
    }

    #[test]
    fn what_cannot_work_is_said() {
        for (page, service) in [
            ("http://app.example.org", AUTH),
            ("https://app.example.net", "http://auth.example.org"),
        ] {
            let found = on_distance(&parties(page, service));
            assert_eq!(
                outcomes(&found),
                [("origins.distance", Outcome::Fail)],
                "{page}"
            );
        }
    }

    #[test]
    fn another_address_than_the_public_url_is_refused() {
        let found = on_settings(
            &parties(APP, "https://login.example.org"),
            &settings(AUTH, &[APP]),
        );
        assert_eq!(outcomes(&found), [("settings.public_url", Outcome::Fail)]);
        // In development the service answers to every name of this machine.
        let development = settings("http://127.0.0.1:8000", &["http://localhost:3000"]);
        let found = on_settings(
            &parties("http://localhost:3000", "http://localhost:8000"),
            &development,
        );
        assert_eq!(outcomes(&found), []);
    }

    #[test]
    fn a_domain_that_leaves_the_page_out_is_of_no_use() {
        let mut narrow = settings(AUTH, &[APP]);
        narrow.cookies.domain = Some("auth.example.org".to_owned());
        let found = on_settings(&parties(APP, AUTH), &narrow);
        assert_eq!(
            outcomes(&found),
            [("settings.cookie_domain", Outcome::Warn)]
        );
        narrow.cookies.domain = Some("example.org".to_owned());
        assert_eq!(outcomes(&on_settings(&parties(APP, AUTH), &narrow)), []);
    }

    #[test]
    fn a_browser_without_csrf_is_warned_of() {
        let mut open = settings(AUTH, &[APP]);
        open.csrf_for_bearer = false;
        let found = on_settings(&parties(APP, AUTH), &open);
        assert_eq!(outcomes(&found), [("settings.csrf", Outcome::Warn)]);
    }

    #[test]
    fn an_api_is_told_what_to_answer() {
        let mut with_api = parties(APP, AUTH);
        with_api.api = Some("https://api.example.org".parse().unwrap());
        let found = on_distance(&with_api);
        assert!(found[1].seen.contains("x-csrftoken"), "{found:?}");
        with_api.api = Some("http://api.example.org".parse().unwrap());
        assert_eq!(
            outcomes(&on_distance(&with_api)),
            [("origins.api", Outcome::Fail)]
        );
    }
}
