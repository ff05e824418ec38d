//! What the service says to browsers about who may read its answers, as it arrives.

use countersign::Origin;

use super::answer::{Answer, printable};
use super::finding::Finding;

pub(super) const ALLOW_ORIGIN: &str = "access-control-allow-origin";
pub(super) const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
pub(super) const ALLOW_HEADERS: &str = "access-control-allow-headers";
pub(super) const ALLOW_METHODS: &str = "access-control-allow-methods";
pub(super) const EXPOSE_HEADERS: &str = "access-control-expose-headers";

const ONE_PLACE: &str = "let the service alone answer CORS: take such headers out of the proxy";

/// An answer to a page that is to be listed. If nothing is allowed to it, that is all there is to say.
pub(super) fn for_listed(page: &Origin, answer: &Answer) -> Vec<Finding> {
    let mut findings = vec![allowed_origin(page, answer)];
    if is_told(answer) {
        findings.extend([credentials(answer), exposed(answer)]);
    }
    findings
}

/// Whether the page is told anything.
pub(super) fn is_told(answer: &Answer) -> bool {
    answer.header(ALLOW_ORIGIN).is_some()
}

/// Whether it is this page that may read, and no other.
pub(super) fn allowed_origin(page: &Origin, answer: &Answer) -> Finding {
    const CHECK: &str = "cors.listed_origin";
    let values: Vec<_> = answer.all(ALLOW_ORIGIN).collect();
    match values.as_slice() {
        [] => Finding::fail(
            CHECK,
            format!(
                "{page} is not allowed to read answers: there is no Access-Control-Allow-Origin"
            ),
            format!(
                "cors.origins = [\"{page}\"]; if it is there, a proxy drops the header, or the \
                 request's Origin"
            ),
        ),
        [value] if *value == page.as_str() => {
            Finding::pass(CHECK, format!("{page} may read answers"))
        }
        ["*"] => Finding::fail(
            CHECK,
            "Access-Control-Allow-Origin is *, which browsers refuse together with cookies",
            ONE_PLACE,
        ),
        [value] if value.contains(',') => Finding::fail(
            CHECK,
            format!(
                "Access-Control-Allow-Origin lists several: {}",
                printable(value)
            ),
            ONE_PLACE,
        ),
        [value] => Finding::fail(
            CHECK,
            format!(
                "Access-Control-Allow-Origin is {}, not {page}",
                printable(value)
            ),
            "if the answer was kept by a cache: have it heed Vary and Cache-Control; otherwise take \
             such headers out of the proxy",
        ),
        several => Finding::fail(
            CHECK,
            format!(
                "there are {} headers Access-Control-Allow-Origin, and browsers refuse that",
                several.len()
            ),
            ONE_PLACE,
        ),
    }
}

fn credentials(answer: &Answer) -> Finding {
    const CHECK: &str = "cors.credentials";
    let values: Vec<_> = answer.all(ALLOW_CREDENTIALS).collect();
    match values.as_slice() {
        ["true"] => Finding::pass(CHECK, "requests with cookies may be answered"),
        [] => Finding::fail(
            CHECK,
            "there is no Access-Control-Allow-Credentials: the page cannot read what its cookies were \
             sent for",
            "see cors.listed_origin; if that is good, a proxy drops this header",
        ),
        other => Finding::fail(
            CHECK,
            format!(
                "Access-Control-Allow-Credentials is {}",
                printable(&other.join(", "))
            ),
            ONE_PLACE,
        ),
    }
}

fn exposed(answer: &Answer) -> Finding {
    const CHECK: &str = "cors.exposed_headers";
    let missing: Vec<_> = ["retry-after", "www-authenticate", "x-request-id"]
        .into_iter()
        .filter(|name| !answer.lists(EXPOSE_HEADERS, name))
        .collect();
    if missing.is_empty() {
        return Finding::pass(
            CHECK,
            "the page can read Retry-After, WWW-Authenticate and X-Request-Id",
        );
    }
    Finding::warn(
        CHECK,
        format!("the page cannot read {}", missing.join(", ")),
        "a client then does not know how long to wait: have the proxy leave \
         Access-Control-Expose-Headers as it is",
    )
}

/// An answer to a page that nobody has listed.
pub(super) fn for_unlisted(stranger: &Origin, answer: &Answer) -> Finding {
    const CHECK: &str = "cors.unlisted_origin";
    match answer.header(ALLOW_ORIGIN) {
        None => Finding::pass(CHECK, format!("{stranger} is told nothing")),
        Some(value) => Finding::fail(
            CHECK,
            format!(
                "{stranger}, which nobody lists, is answered Access-Control-Allow-Origin: {}",
                printable(value)
            ),
            "something in front of the service allows everybody: take CORS headers out of the proxy",
        ),
    }
}

/// Whether caches are told that answers depend on who asks: here with and there without an `Origin`.
pub(super) fn vary(answers: &[&Answer]) -> Finding {
    const CHECK: &str = "cors.vary";
    if answers.iter().all(|answer| answer.lists("vary", "origin")) {
        return Finding::pass(CHECK, "Vary names Origin");
    }
    Finding::fail(
        CHECK,
        "Vary does not name Origin: a cache may give one page the answer that was for another",
        "have the proxy leave Vary as it is",
    )
}

/// Whether browsers that ask first are told yes, for what pages do.
pub(super) fn preflight(
    page: &Origin,
    check: &'static str,
    wanted: (&str, &[&str]),
    answer: &Answer,
) -> Finding {
    let (method, headers) = wanted;
    let asked = format!("{method} with {}", headers.join(", "));
    if !(200..300).contains(&answer.status) {
        let (seen, remedy) = match answer.code().as_deref() {
            Some("origin_denied") => (
                format!("{asked} is refused to {page}: {}", answer.shown()),
                format!("cors.origins = [\"{page}\"]; if it is there, the proxy drops Origin"),
            ),
            _ => (
                format!(
                    "OPTIONS, by which browsers ask first, is answered {}",
                    answer.shown()
                ),
                "have the proxy pass OPTIONS on to the service, without asking for anything"
                    .to_owned(),
            ),
        };
        return Finding::fail(check, seen, remedy);
    }
    let allowed = allowed_origin(page, answer);
    if let Some(remedy) = allowed.remedy {
        return Finding::fail(check, format!("{asked}: {}", allowed.seen), remedy);
    }
    let has_method = method == "POST" || answer.lists(ALLOW_METHODS, method);
    let missing: Vec<_> = headers
        .iter()
        .filter(|name| !answer.lists(ALLOW_HEADERS, name))
        .copied()
        .chain((!has_method).then_some(method))
        .collect();
    if !missing.is_empty() {
        return Finding::fail(
            check,
            format!("{asked}: the answer does not allow {}", missing.join(", ")),
            "a proxy answers OPTIONS itself, with less: have it pass them on to the service",
        );
    }
    match answer.header(ALLOW_CREDENTIALS) {
        Some("true") => Finding::pass(check, format!("{asked} is allowed to {page}")),
        _ => Finding::fail(
            check,
            format!("{asked} is allowed, but not with cookies"),
            "a proxy answers OPTIONS itself: have it pass them on to the service",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::answer;
    use super::super::finding::Outcome::{self, Fail, Pass, Warn};
    use super::*;

    const PAGE: &str = "https://app.example.org";
    const GOOD: [(&str, &str); 4] = [
        (ALLOW_ORIGIN, PAGE),
        (ALLOW_CREDENTIALS, "true"),
        (
            EXPOSE_HEADERS,
            "retry-after, www-authenticate, x-request-id",
        ),
        ("vary", "origin"),
    ];

    fn page() -> Origin {
        PAGE.parse().unwrap()
    }

    fn listed(headers: &[(&str, &str)]) -> Vec<Outcome> {
        let found = for_listed(&page(), &answer(200, headers, ""));
        found.iter().map(|finding| finding.outcome).collect()
    }

    #[test]
    fn a_good_answer_is_good() {
        assert_eq!(listed(&GOOD), [Pass, Pass, Pass]);
        assert_eq!(vary(&[&answer(200, &GOOD, "")]).outcome, Pass);
    }

    #[test]
    fn each_header_that_is_missing_is_named() {
        assert_eq!(listed(&GOOD[1..]), [Fail]);
        assert_eq!(listed(&[GOOD[0], GOOD[2]]), [Pass, Fail, Pass]);
        assert_eq!(listed(&GOOD[..2]), [Pass, Pass, Warn]);
        let good = answer(200, &GOOD, "");
        let without = answer(200, &GOOD[..3], "");
        assert_eq!(vary(&[&good, &without]).outcome, Fail);
    }

    #[test]
    fn what_browsers_refuse_is_refused() {
        for bad in [
            "*",
            "null",
            "https://app.example.org, https://b.example",
            "https://app.example.org/",
        ] {
            let found = listed(&[(ALLOW_ORIGIN, bad), GOOD[1], GOOD[2]]);
            assert_eq!(found, [Fail, Pass, Pass], "{bad}");
        }
        let twice = listed(&[GOOD[0], GOOD[0], GOOD[1], GOOD[2]]);
        assert_eq!(twice, [Fail, Pass, Pass]);
    }

    #[test]
    fn strangers_are_told_nothing() {
        let stranger: Origin = "https://unlisted.invalid".parse().unwrap();
        assert_eq!(for_unlisted(&stranger, &answer(200, &[], "")).outcome, Pass);
        for value in ["*", "https://unlisted.invalid", PAGE] {
            let told = answer(200, &[(ALLOW_ORIGIN, value)], "");
            assert_eq!(for_unlisted(&stranger, &told).outcome, Fail, "{value}");
        }
    }

    fn asked_first(status: u16, headers: &[(&str, &str)], body: &str) -> Finding {
        let wanted = ("PATCH", &["authorization", "x-csrftoken"][..]);
        preflight(
            &page(),
            "cors.preflight_user",
            wanted,
            &answer(status, headers, body),
        )
    }

    #[test]
    fn a_preflight_allows_what_is_asked_for() {
        let methods = (ALLOW_METHODS, "GET, POST, PATCH");
        let both = (ALLOW_HEADERS, "authorization, content-type, x-csrftoken");
        assert_eq!(
            asked_first(204, &[GOOD[0], GOOD[1], methods, both], "").outcome,
            Pass
        );
        let one = (ALLOW_HEADERS, "authorization");
        let found = asked_first(204, &[GOOD[0], GOOD[1], methods, one], "");
        assert!(
            found.outcome == Fail && found.seen.contains("x-csrftoken"),
            "{found:?}"
        );
        let found = asked_first(204, &[GOOD[0], GOOD[1], both], "");
        assert!(
            found.outcome == Fail && found.seen.contains("PATCH"),
            "{found:?}"
        );
        assert_eq!(
            asked_first(204, &[GOOD[0], methods, both], "").outcome,
            Fail
        );
        assert_eq!(asked_first(204, &[methods, both], "").outcome, Fail);
    }

    #[test]
    fn a_preflight_that_is_refused_says_by_whom() {
        let ours = asked_first(403, &[], r#"{"code":"origin_denied"}"#);
        assert!(ours.remedy.unwrap().contains("cors.origins"));
        let proxys = asked_first(405, &[], "<h1>Not allowed</h1>");
        assert!(proxys.remedy.unwrap().contains("OPTIONS"));
    }
}
