//! What an API that verifies the tokens says to the page, as it arrives.
//!
//! The client shows it the access token and the CSRF token in headers and no cookies, does not follow
//! redirects with them, and refreshes when it is answered 401.

use countersign::Origin;

use super::answer::{Answer, printable};
use super::cors::{ALLOW_CREDENTIALS, ALLOW_HEADERS, ALLOW_METHODS, ALLOW_ORIGIN, EXPOSE_HEADERS};
use super::finding::Finding;

/// Whether the API itself answers where it is asked. If it does not, nothing that is answered is its word.
pub(super) fn way_in(api: &Origin, path: &str, answer: &Answer) -> Finding {
    const CHECK: &str = "api.way";
    match (answer.status, answer.header("location")) {
        (300..400, Some(place)) => {
            let seen = format!(
                "{path} is answered {}, and leads to {}",
                answer.status,
                printable(place)
            );
            let remedy = if api.is_https() && place.starts_with("http://") {
                "the API sees http behind TLS: have the proxy send X-Forwarded-Proto: https, and the API \
                 believe it"
            } else {
                "name a path with --api-path that answers itself: requests that carry tokens are not \
                 redirected"
            };
            Finding::fail(CHECK, seen, remedy)
        }
        (502..=504, _) => Finding::fail(
            CHECK,
            format!("{path} is answered {}", answer.status),
            "what stands before the API does not reach it",
        ),
        (404 | 405, _) => Finding::warn(
            CHECK,
            format!("{path} is answered {}", answer.status),
            "name a path of the API that wants a token with --api-path: what holds for others need not hold \
             for this one",
        ),
        (status, _) => Finding::pass(CHECK, format!("{api}{path} is answered {status}")),
    }
}

/// Whether the page may read an answer; and, if it may, what of it, and whether caches keep it apart.
pub(super) fn for_page(page: &Origin, answer: &Answer) -> Vec<Finding> {
    let may_read = listed_origin(page, answer);
    let is_readable = answer.header(ALLOW_ORIGIN).is_some();
    let mut findings = vec![may_read];
    if is_readable {
        findings.push(exposed(answer));
        findings.extend(vary(answer));
    }
    findings
}

fn listed_origin(page: &Origin, answer: &Answer) -> Finding {
    const CHECK: &str = "api.listed_origin";
    let allow = format!("have the API answer {page} with Access-Control-Allow-Origin: {page}");
    match answer.all(ALLOW_ORIGIN).collect::<Vec<_>>().as_slice() {
        [] => Finding::fail(
            CHECK,
            format!(
                "{page} is not allowed to read answers of status {}: there is no \
                 Access-Control-Allow-Origin",
                answer.status
            ),
            format!("{allow}, refusals too"),
        ),
        [value] if *value == page.as_str() => {
            Finding::pass(CHECK, format!("{page} may read answers"))
        }
        ["*"] if answer.header(ALLOW_CREDENTIALS).is_none() => Finding::warn(
            CHECK,
            "every page may read answers: Access-Control-Allow-Origin is *",
            allow,
        ),
        [value] => Finding::fail(
            CHECK,
            format!(
                "Access-Control-Allow-Origin is {}, not {page}",
                printable(value)
            ),
            allow,
        ),
        several => Finding::fail(
            CHECK,
            format!(
                "there are {} headers Access-Control-Allow-Origin, and browsers refuse that",
                several.len()
            ),
            "let the API or the proxy answer CORS, not both",
        ),
    }
}

fn exposed(answer: &Answer) -> Finding {
    const CHECK: &str = "api.exposed_headers";
    let is_any = answer.lists(EXPOSE_HEADERS, "*") && answer.header(ALLOW_CREDENTIALS).is_none();
    let missing: Vec<_> = ["retry-after", "www-authenticate"]
        .into_iter()
        .filter(|name| !is_any && !answer.lists(EXPOSE_HEADERS, name))
        .collect();
    if missing.is_empty() {
        return Finding::pass(CHECK, "the page can read Retry-After and WWW-Authenticate");
    }
    Finding::warn(
        CHECK,
        format!("the page cannot read {}", missing.join(", ")),
        "Access-Control-Expose-Headers: retry-after, www-authenticate",
    )
}

/// What is the same for everybody may be kept for everybody.
fn vary(answer: &Answer) -> Option<Finding> {
    const CHECK: &str = "api.vary";
    if answer.header(ALLOW_ORIGIN) == Some("*") {
        return None;
    }
    Some(if answer.lists("vary", "origin") {
        Finding::pass(CHECK, "Vary names Origin")
    } else {
        Finding::fail(
            CHECK,
            "Vary does not name Origin: a cache may give one page the answer that was for another",
            "Vary: Origin",
        )
    })
}

/// An answer to a page that nobody has listed.
pub(super) fn for_unlisted(stranger: &Origin, answer: &Answer) -> Finding {
    const CHECK: &str = "api.unlisted_origin";
    let told = answer.header(ALLOW_ORIGIN);
    if told != Some(stranger.as_str()) {
        return Finding::pass(CHECK, format!("{stranger} is not allowed by name"));
    }
    let seen = format!("{stranger}, which nobody lists, may read answers");
    let remedy = "have the API compare Origin with a list, and not repeat whatever it is sent";
    if answer.header(ALLOW_CREDENTIALS).is_some() {
        return Finding::fail(CHECK, format!("{seen}, even with cookies"), remedy);
    }
    Finding::warn(CHECK, seen, remedy)
}

/// Whether browsers that ask first are told yes, for what the client sends.
pub(super) fn preflight(
    page: &Origin,
    check: &'static str,
    wanted: (&str, &[&str]),
    answer: &Answer,
) -> Finding {
    let (method, headers) = wanted;
    let asked = format!("{method} with {}", headers.join(", "));
    if !(200..300).contains(&answer.status) {
        let seen = format!(
            "OPTIONS, by which browsers ask first, is answered {}",
            answer.shown()
        );
        let remedy = match answer.status {
            401 | 403 => "have OPTIONS answered without a token: browsers ask before they show one",
            _ => {
                "have the API, or the proxy before it, answer OPTIONS with 204 and its CORS headers"
            }
        };
        return Finding::fail(check, seen, remedy);
    }
    let allowed = listed_origin(page, answer);
    if let (Some(remedy), false) = (&allowed.remedy, answer.header(ALLOW_ORIGIN) == Some("*")) {
        return Finding::fail(check, format!("{asked}: {}", allowed.seen), remedy.clone());
    }
    // Allowed to all is everything but Authorization, which must be named (Fetch, "CORS-preflight fetch").
    let all_but_this =
        |name: &str| answer.lists(name, "*") && answer.header(ALLOW_CREDENTIALS).is_none();
    let lacks_header = |name: &&&str| {
        let is_meant = **name != "authorization" && all_but_this(ALLOW_HEADERS);
        !is_meant && !answer.lists(ALLOW_HEADERS, name)
    };
    let has_method = matches!(method, "GET" | "POST")
        || all_but_this(ALLOW_METHODS)
        || answer.lists(ALLOW_METHODS, method);
    let missing: Vec<_> = headers
        .iter()
        .filter(lacks_header)
        .copied()
        .chain((!has_method).then_some(method))
        .collect();
    if missing.is_empty() {
        return Finding::pass(check, format!("{asked} is allowed to {page}"));
    }
    Finding::fail(
        check,
        format!("{asked}: the answer does not allow {}", missing.join(", ")),
        format!(
            "have OPTIONS answered with Access-Control-Allow-Headers: {}{}",
            headers.join(", "),
            if has_method {
                String::new()
            } else {
                format!(" and Access-Control-Allow-Methods: {method}")
            }
        ),
    )
}

/// A request without a token: only 401 tells the client that a token would help.
pub(super) fn refusal(path: &str, answer: &Answer) -> Finding {
    const CHECK: &str = "api.refusal";
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    match answer.status {
        401 if has_word(challenge, "bearer") => Finding::pass(
            CHECK,
            format!("without a token the answer is {}", answer.shown()),
        ),
        401 => Finding::warn(
            CHECK,
            "without a token the answer is 401, and does not say with what to come back",
            "WWW-Authenticate: Bearer, and a body of application/problem+json with a code (RFC 6750, RFC 9457)",
        ),
        403 => Finding::fail(
            CHECK,
            format!("without a token the answer is {}", answer.shown()),
            "401 where a token is missing, bad or old: that is when the client refreshes. 403 is for whoever \
             is known and may not",
        ),
        200..300 => Finding::skip(
            CHECK,
            format!(
                "{path} is answered without a token: name a path that wants one with --api-path"
            ),
        ),
        status => Finding::skip(
            CHECK,
            format!("{path} is answered {status}: name a path that wants a token with --api-path"),
        ),
    }
}

/// A request with a token that is none, to a path that was answered `before` without one.
pub(super) fn bad_token(before: &Answer, answer: &Answer) -> Finding {
    const CHECK: &str = "api.authorization";
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    match (before.status, answer.status) {
        (401, 200..300) => Finding::fail(
            CHECK,
            "a token that is none is believed",
            "verify each token: its signature, issuer, audience, typ and end",
        ),
        (401, 401) if answer.code().as_deref() == Some("credentials_missing") => Finding::fail(
            CHECK,
            format!("Authorization does not arrive: {}", answer.shown()),
            "have the proxy pass Authorization on (some take it for their own log-in)",
        ),
        (401, 401) if challenge.contains("invalid_token") || is_about_a_token(answer) => {
            Finding::pass(
                CHECK,
                "Authorization arrives, and a token that is none is refused",
            )
        }
        (401, 401) => Finding::pass(
            CHECK,
            "a token that is none is refused; whether Authorization arrives, the answer does not tell",
        ),
        (401, status) => Finding::fail(
            CHECK,
            format!("a token that is none is answered {status}"),
            "401, whatever is wrong with a token: that is when the client refreshes",
        ),
        _ => Finding::skip(
            CHECK,
            "whether tokens are looked at, only a path that wants one can tell",
        ),
    }
}

fn is_about_a_token(answer: &Answer) -> bool {
    answer.code().is_some_and(|code| code.starts_with("token_"))
}

/// Whether a header's value begins with a scheme, in any case.
fn has_word(challenge: &str, scheme: &str) -> bool {
    let mut words = challenge.split([' ', ',']);
    words.any(|word| word.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::answer;
    use super::super::finding::Outcome::{self, Fail, Pass, Skip, Warn};
    use super::*;

    const PAGE: &str = "https://app.example.org";
    const ORIGIN: (&str, &str) = (ALLOW_ORIGIN, PAGE);
    const EXPOSED: (&str, &str) = (EXPOSE_HEADERS, "Retry-After, WWW-Authenticate");
    const VARY: (&str, &str) = ("vary", "Origin");

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    fn to_page(headers: &[(&str, &str)]) -> Vec<Outcome> {
        let found = for_page(&origin(PAGE), &answer(401, headers, ""));
        found.iter().map(|finding| finding.outcome).collect()
    }

    #[test]
    fn a_page_that_is_named_may_read() {
        assert_eq!(to_page(&[ORIGIN, EXPOSED, VARY]), [Pass, Pass, Pass]);
        assert_eq!(to_page(&[ORIGIN, VARY]), [Pass, Warn, Pass]);
        assert_eq!(to_page(&[ORIGIN, EXPOSED]), [Pass, Pass, Fail]);
        assert_eq!(to_page(&[EXPOSED, VARY]), [Fail]);
        assert_eq!(to_page(&[ORIGIN, ORIGIN, EXPOSED, VARY])[0], Fail);
        let other = (ALLOW_ORIGIN, "https://other.example.org");
        assert_eq!(to_page(&[other, EXPOSED, VARY])[0], Fail);
    }

    #[test]
    fn everybody_is_one_too_many_but_works_without_cookies() {
        let all = (ALLOW_ORIGIN, "*");
        assert_eq!(to_page(&[all, (EXPOSE_HEADERS, "*")]), [Warn, Pass]);
        assert_eq!(
            to_page(&[all, EXPOSED, (ALLOW_CREDENTIALS, "true")])[0],
            Fail
        );
    }

    #[test]
    fn whoever_repeats_any_origin_is_found() {
        let stranger = origin("https://unlisted.invalid");
        let check =
            |headers: &[(&str, &str)]| for_unlisted(&stranger, &answer(401, headers, "")).outcome;
        let echo = (ALLOW_ORIGIN, "https://unlisted.invalid");
        assert_eq!(check(&[]), Pass);
        assert_eq!(check(&[(ALLOW_ORIGIN, "*")]), Pass);
        assert_eq!(check(&[echo]), Warn);
        assert_eq!(check(&[echo, (ALLOW_CREDENTIALS, "true")]), Fail);
    }

    #[test]
    fn a_preflight_names_authorization() {
        let check = |status, headers: &[(&str, &str)]| {
            let wanted = ("PATCH", &["authorization", "x-csrftoken"][..]);
            preflight(
                &origin(PAGE),
                "api.preflight_write",
                wanted,
                &answer(status, headers, ""),
            )
            .outcome
        };
        let methods = (ALLOW_METHODS, "GET, PATCH");
        let both = (ALLOW_HEADERS, "Authorization, X-CSRFToken");
        assert_eq!(check(204, &[ORIGIN, methods, both]), Pass);
        assert_eq!(check(401, &[ORIGIN, methods, both]), Fail);
        assert_eq!(check(204, &[methods, both]), Fail);
        assert_eq!(check(204, &[ORIGIN, both]), Fail);
        assert_eq!(
            check(204, &[ORIGIN, methods, (ALLOW_HEADERS, "Authorization")]),
            Fail
        );
        let all = (ALLOW_ORIGIN, "*");
        assert_eq!(
            check(204, &[all, methods, (ALLOW_HEADERS, "*, Authorization")]),
            Pass
        );
        assert_eq!(check(204, &[all, methods, (ALLOW_HEADERS, "*")]), Fail);
        let with_cookies = [
            ORIGIN,
            methods,
            (ALLOW_HEADERS, "*, Authorization"),
            (ALLOW_CREDENTIALS, "true"),
        ];
        assert_eq!(check(204, &with_cookies), Fail);
    }

    #[test]
    fn only_401_says_that_a_token_would_help() {
        let check =
            |status, headers: &[(&str, &str)]| refusal("/", &answer(status, headers, "")).outcome;
        assert_eq!(
            check(401, &[("www-authenticate", "Bearer realm=\"api\"")]),
            Pass
        );
        assert_eq!(check(401, &[("www-authenticate", "Basic, bearer")]), Pass);
        assert_eq!(check(401, &[("www-authenticate", "Basic")]), Warn);
        assert_eq!(check(401, &[]), Warn);
        assert_eq!(check(403, &[]), Fail);
        assert_eq!(check(200, &[]), Skip);
        assert_eq!(check(404, &[]), Skip);
    }

    #[test]
    fn a_token_that_is_none_is_not_believed() {
        let check = |before, status, headers: &[(&str, &str)]| {
            bad_token(&answer(before, &[], ""), &answer(status, headers, "")).outcome
        };
        assert_eq!(
            check(
                401,
                401,
                &[("www-authenticate", "Bearer error=\"invalid_token\"")]
            ),
            Pass
        );
        assert_eq!(check(401, 401, &[]), Pass);
        let missing = answer(401, &[], r#"{"code":"credentials_missing"}"#);
        assert_eq!(bad_token(&missing, &missing).outcome, Fail);
        assert_eq!(check(401, 200, &[]), Fail);
        assert_eq!(check(401, 500, &[]), Fail);
        assert_eq!(check(200, 200, &[]), Skip);
    }

    #[test]
    fn a_redirect_is_told_from_http_behind_tls() {
        let api = origin("https://api.example.org");
        let leads_to = |place| way_in(&api, "/", &answer(301, &[("location", place)], ""));
        assert!(
            leads_to("http://api.example.org/things")
                .remedy
                .unwrap()
                .contains("X-Forwarded-Proto")
        );
        assert!(
            leads_to("https://api.example.org/en/")
                .remedy
                .unwrap()
                .contains("--api-path")
        );
        assert_eq!(way_in(&api, "/", &answer(502, &[], "")).outcome, Fail);
        assert_eq!(way_in(&api, "/", &answer(404, &[], "")).outcome, Warn);
        assert_eq!(way_in(&api, "/", &answer(401, &[], "")).outcome, Pass);
    }
}
