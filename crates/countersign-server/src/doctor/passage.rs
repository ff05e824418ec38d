//! Whether what a browser sends arrives at the service, told by what the service answers.

use countersign::Origin;

use super::answer::Answer;
use super::finding::Finding;

/// Any answer at all: whether it is of the service's, and whether the service is content with how it was
/// asked.
pub(super) fn way_in(service: &Origin, answer: &Answer) -> Finding {
    const CHECK: &str = "way.service";
    match answer.code().as_deref() {
        Some("https_required") => Finding::fail(
            CHECK,
            format!(
                "{service} is https, but the service sees http: {}",
                answer.shown()
            ),
            "name the proxy that ends TLS in server.trusted_proxies, and have it send \
             X-Forwarded-Proto: https",
        ),
        Some("misdirected_request") => Finding::fail(
            CHECK,
            format!(
                "the service does not know itself by this name: {}",
                answer.shown()
            ),
            format!(
                "server.public_url = \"{service}\"; or have the proxy send the Host that the browser \
                 sent, or name it in server.trusted_proxies"
            ),
        ),
        _ if answer.status == 200 && has_csrf_token(answer) => {
            Finding::pass(CHECK, format!("Countersign answers at {service}"))
        }
        _ if (300..400).contains(&answer.status) => Finding::fail(
            CHECK,
            format!(
                "GET /users/csrf is redirected to {}",
                super::answer::printable(answer.header("location").unwrap_or("nowhere"))
            ),
            "give that address, or have the proxy pass /users on to the service",
        ),
        _ => Finding::fail(
            CHECK,
            format!(
                "GET /users/csrf is answered {}, which is not Countersign's doing",
                answer.shown()
            ),
            "look at the address, and at whether the proxy passes /users on to the service",
        ),
    }
}

fn has_csrf_token(answer: &Answer) -> bool {
    answer
        .json()
        .is_some_and(|body| body["csrf_token"].is_string())
}

/// A sign-in from a page that nobody has listed, which must be refused for that.
pub(super) fn origin(answer: &Answer) -> Finding {
    const CHECK: &str = "way.origin";
    match answer.code().as_deref() {
        Some("origin_denied") => Finding::pass(
            CHECK,
            "Origin arrives: a page that is not listed is refused",
        ),
        Some("throttled") => throttled(CHECK),
        _ => Finding::fail(
            CHECK,
            format!(
                "a sign-in from an unlisted page is answered {}: Origin does not arrive",
                answer.shown()
            ),
            "have the proxy pass Origin on as it is: without it forged requests cannot be told from others",
        ),
    }
}

/// A wrong sign-in from a listed page, with a name that nobody has.
pub(super) fn wrong_login(page: &Origin, answer: &Answer) -> Finding {
    const CHECK: &str = "way.login";
    match answer.code().as_deref() {
        Some("invalid_credentials") => Finding::pass(
            CHECK,
            format!("{page} can try to sign in, and wrong credentials are refused"),
        ),
        Some("throttled") => throttled(CHECK),
        Some("origin_denied") => Finding::fail(
            CHECK,
            format!("{page} is refused: {}", answer.shown()),
            format!("cors.origins = [\"{page}\"]"),
        ),
        _ => Finding::fail(
            CHECK,
            format!("a wrong sign-in is answered {}", answer.shown()),
            "have the proxy pass POST /users/login on, body and Content-Type as they are",
        ),
    }
}

fn throttled(check: &'static str) -> Finding {
    Finding::skip(
        check,
        "this address has tried too often: wait, and ask again",
    )
}

/// A request with an access token that is none.
pub(super) fn authorization(answer: &Answer) -> Finding {
    const CHECK: &str = "way.authorization";
    match answer.code().as_deref() {
        Some("token_malformed" | "token_invalid") => Finding::pass(CHECK, "Authorization arrives"),
        Some("throttled") => throttled(CHECK),
        Some("credentials_missing") => Finding::fail(
            CHECK,
            format!("Authorization does not arrive: {}", answer.shown()),
            "have the proxy pass Authorization on (some take it for their own log-in)",
        ),
        _ => Finding::fail(
            CHECK,
            format!("a token that is none is answered {}", answer.shown()),
            "look at what the proxy does with Authorization",
        ),
    }
}

/// A refresh with a cookie that is none.
pub(super) fn cookie(answer: &Answer) -> Finding {
    const CHECK: &str = "way.cookie";
    match answer.code().as_deref() {
        Some("refresh_invalid") => Finding::pass(CHECK, "Cookie arrives"),
        Some("throttled") => throttled(CHECK),
        Some("refresh_missing") => Finding::fail(
            CHECK,
            format!("the refresh cookie does not arrive: {}", answer.shown()),
            "have the proxy pass Cookie on as it is; or the service has another cookies.refresh_name",
        ),
        _ => Finding::fail(
            CHECK,
            format!(
                "a refresh token that is none is answered {}",
                answer.shown()
            ),
            "look at what the proxy does with Cookie and X-CSRFToken",
        ),
    }
}

/// A refresh with two cookies of the name, one of which somebody planted.
pub(super) fn two_cookies(answer: &Answer) -> Finding {
    const CHECK: &str = "way.two_cookies";
    match answer.code().as_deref() {
        Some("malformed_request") => Finding::pass(CHECK, "two refresh cookies are refused"),
        Some("throttled") => throttled(CHECK),
        _ => Finding::warn(
            CHECK,
            format!(
                "of two refresh cookies one is lost on the way: {}",
                answer.shown()
            ),
            "have the proxy pass Cookie on as it is: a planted one would go unnoticed",
        ),
    }
}

/// What the same host answers in plain http; `None`: nothing.
pub(super) fn plain_http(service: &Origin, answer: Option<&Answer>) -> Finding {
    const CHECK: &str = "way.plain_http";
    match answer {
        None => Finding::pass(CHECK, "nobody answers in plain http"),
        Some(answer) if (300..400).contains(&answer.status) => {
            let to = answer.header("location").unwrap_or_default();
            if to.starts_with("https://") {
                Finding::pass(CHECK, "plain http is led to https")
            } else {
                Finding::warn(
                    CHECK,
                    format!(
                        "plain http is redirected, but not to https: {}",
                        super::answer::printable(to)
                    ),
                    format!("lead it to {service}"),
                )
            }
        }
        Some(answer) if has_csrf_token(answer) => Finding::fail(
            CHECK,
            "the service answers in plain http: passwords and tokens could be read on the way",
            "answer plain http with a redirect to https, or not at all; and have the proxy say \
             X-Forwarded-Proto: http there",
        ),
        Some(_) => Finding::pass(CHECK, "plain http gets no answer of the service's"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::answer;
    use super::super::finding::Outcome::{Fail, Pass, Skip, Warn};
    use super::*;

    fn refused(status: u16, code: &str) -> Answer {
        answer(status, &[], &format!("{{\"code\":\"{code}\"}}"))
    }

    fn service() -> Origin {
        "https://auth.example.org".parse().unwrap()
    }

    #[test]
    fn http_behind_tls_is_named_as_such() {
        let found = way_in(&service(), &refused(403, "https_required"));
        assert_eq!(found.outcome, Fail);
        assert!(found.remedy.unwrap().contains("X-Forwarded-Proto: https"));
    }

    #[test]
    fn another_host_is_named_as_such() {
        let found = way_in(&service(), &refused(421, "misdirected_request"));
        assert!(found.remedy.unwrap().contains("public_url"));
    }

    #[test]
    fn whoever_else_answers_is_not_the_service() {
        for other in [
            answer(200, &[], "<h1>Welcome to nginx</h1>"),
            answer(200, &[], "{}"),
            answer(404, &[], ""),
            answer(302, &[("location", "https://login.example")], ""),
            refused(500, "internal_error"),
        ] {
            assert_eq!(way_in(&service(), &other).outcome, Fail, "{other:?}");
        }
        assert_eq!(
            way_in(&service(), &answer(200, &[], r#"{"csrf_token":"x"}"#)).outcome,
            Pass
        );
    }

    #[test]
    fn headers_that_do_not_arrive_are_known_by_the_answer() {
        assert_eq!(origin(&refused(403, "origin_denied")).outcome, Pass);
        assert_eq!(origin(&refused(401, "invalid_credentials")).outcome, Fail);
        assert_eq!(
            authorization(&refused(401, "token_malformed")).outcome,
            Pass
        );
        assert_eq!(
            authorization(&refused(401, "credentials_missing")).outcome,
            Fail
        );
        assert_eq!(cookie(&refused(401, "refresh_invalid")).outcome, Pass);
        assert_eq!(cookie(&refused(401, "refresh_missing")).outcome, Fail);
        assert_eq!(
            two_cookies(&refused(400, "malformed_request")).outcome,
            Pass
        );
        assert_eq!(two_cookies(&refused(401, "refresh_invalid")).outcome, Warn);
    }

    #[test]
    fn whoever_has_to_wait_knows_nothing() {
        let wait = refused(429, "throttled");
        let page: Origin = "https://app.example.org".parse().unwrap();
        for found in [
            origin(&wait),
            authorization(&wait),
            cookie(&wait),
            two_cookies(&wait),
            wrong_login(&page, &wait),
        ] {
            assert_eq!(found.outcome, Skip, "{found:?}");
        }
    }

    #[test]
    fn plain_http_leads_to_https_or_nowhere() {
        let led = |to| answer(301, &[("location", to)], "");
        assert_eq!(plain_http(&service(), None).outcome, Pass);
        assert_eq!(
            plain_http(&service(), Some(&led("https://auth.example.org/"))).outcome,
            Pass
        );
        assert_eq!(
            plain_http(&service(), Some(&led("http://www.example.org/"))).outcome,
            Warn
        );
        assert_eq!(
            plain_http(&service(), Some(&refused(403, "https_required"))).outcome,
            Pass
        );
        let answered = answer(200, &[], r#"{"csrf_token":"x"}"#);
        assert_eq!(plain_http(&service(), Some(&answered)).outcome, Fail);
    }
}
