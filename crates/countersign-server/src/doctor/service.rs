//! What the service says of itself, its clock, its caches, and the certificate that it shows.

use countersign::Origin;
use countersign_token::JsonWebKeySet;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::answer::{Answer, printable};
use super::finding::Finding;

/// Beyond this the clocks should be looked after, and beyond the other tokens are refused for it.
const SKEW_TO_WARN_SECONDS: i64 = 5;
const SKEW_TO_FAIL_SECONDS: i64 = 60;

/// A certificate should have been renewed by now.
const DAYS_LEFT: i64 = 14;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Whether the answers name the issuer, and the addresses of the keys, under which it was asked.
pub(super) fn metadata(service: &Origin, issuer: Option<&str>, answer: &Answer) -> Finding {
    const CHECK: &str = "service.issuer";
    let Some(metadata) = answer.json().filter(|_| answer.status == 200) else {
        return Finding::fail(
            CHECK,
            format!(
                "/.well-known/oauth-authorization-server is answered {}",
                answer.shown()
            ),
            "have the proxy pass /.well-known on to the service",
        );
    };
    let told = metadata["issuer"].as_str().unwrap_or_default();
    if let Some(expected) = issuer.filter(|expected| *expected != told) {
        return Finding::fail(
            CHECK,
            format!(
                "the service calls itself {}, and tokens.issuer is {expected}",
                printable(told)
            ),
            "another Countersign answers there, or one with other settings",
        );
    }
    if service.is_https() && told.starts_with("http://") {
        return Finding::fail(
            CHECK,
            format!(
                "the issuer is {}, though the service is reached by https",
                printable(told)
            ),
            format!("server.public_url = \"{service}\""),
        );
    }
    let keys = metadata["jwks_uri"].as_str().unwrap_or_default();
    let is_near = keys
        .strip_prefix(service.as_str())
        .is_some_and(|path| path.starts_with('/'));
    if !is_near && !service.is_loopback() {
        return Finding::fail(
            CHECK,
            format!(
                "the keys are said to be at {}, not at {service}",
                printable(keys)
            ),
            format!("server.public_url = \"{service}\", or have everybody use that address"),
        );
    }
    Finding::pass(CHECK, format!("it calls itself {}", printable(told)))
}

/// Whether resource servers can have the keys.
pub(super) fn keys(answer: &Answer) -> (Finding, Option<JsonWebKeySet>) {
    const CHECK: &str = "service.keys";
    let remedy = "have the proxy pass /.well-known/jwks.json on to the service, as it is";
    if answer.status != 200 {
        let seen = format!("/.well-known/jwks.json is answered {}", answer.shown());
        return (Finding::fail(CHECK, seen, remedy), None);
    }
    match JsonWebKeySet::parse(&answer.body) {
        Err(refusal) => {
            let seen = format!("the keys cannot be read: {refusal}");
            (Finding::fail(CHECK, seen, remedy), None)
        }
        Ok(keys)
            if answer
                .header("cache-control")
                .is_none_or(|value| !value.contains("max-age")) =>
        {
            let seen = "the keys do not say how long they may be kept: Cache-Control is gone";
            (
                Finding::warn(CHECK, seen, "have the proxy leave Cache-Control as it is"),
                Some(keys),
            )
        }
        Ok(keys) => {
            let seen = match keys.keys().len() {
                0 => "no public keys: tokens are signed with a shared secret (HS256)".to_owned(),
                1 => "one public key".to_owned(),
                many => format!("{many} public keys"),
            };
            (Finding::pass(CHECK, seen), Some(keys))
        }
    }
}

/// How far the service's clock is from ours, of an answer that came at `now` and was asked for at `sent`.
pub(super) fn clock(sent: Timestamp, now: Timestamp, answer: &Answer) -> Finding {
    const CHECK: &str = "service.clock";
    let told = answer.header("date").and_then(|date| {
        let zoned = rfc2822::parse(date).ok()?;
        Some(zoned.timestamp())
    });
    let Some(told) = told else {
        return Finding::warn(
            CHECK,
            "there is no Date to compare with",
            "have the proxy leave Date as it is",
        );
    };
    // A Date has whole seconds, and was written at some time between.
    let (earliest, latest) = (sent.as_second(), now.as_second());
    let told = told.as_second();
    let skew = if told < earliest {
        told - earliest
    } else {
        (told - latest).max(0)
    };
    let seen = match skew {
        0 => "its clock and ours agree".to_owned(),
        behind if behind < 0 => format!("its clock is {} s behind ours", -behind),
        ahead => format!("its clock is {ahead} s ahead of ours"),
    };
    let remedy = "keep both in step with NTP: tokens from the future are refused, and limits are decided by \
                  the service's clock";
    match skew.abs() {
        small if small <= SKEW_TO_WARN_SECONDS => Finding::pass(CHECK, seen),
        medium if medium <= SKEW_TO_FAIL_SECONDS => Finding::warn(CHECK, seen, remedy),
        _ => Finding::fail(CHECK, seen, remedy),
    }
}

/// Whether answers with tokens may be kept by anybody on the way.
pub(super) fn caches(answer: &Answer) -> Finding {
    const CHECK: &str = "service.caches";
    if answer.header("age").is_some_and(|age| age.trim() != "0") {
        return Finding::fail(
            CHECK,
            "an answer came out of a cache: it has an Age",
            "have nothing in front of the service keep what is under /users",
        );
    }
    if answer.lists("cache-control", "no-store") {
        return Finding::pass(CHECK, "answers say no-store");
    }
    Finding::fail(
        CHECK,
        format!(
            "answers do not say no-store: Cache-Control is {}",
            printable(answer.header("cache-control").unwrap_or("missing"))
        ),
        "have the proxy leave Cache-Control as it is: caches might keep tokens",
    )
}

/// Whether browsers are told to keep to https.
pub(super) fn hsts(service: &Origin, answer: &Answer) -> Option<Finding> {
    const CHECK: &str = "service.hsts";
    if !service.is_https() {
        return None;
    }
    let max_age = answer
        .header("strict-transport-security")
        .and_then(|value| {
            let mut directives = value.split(';').map(str::trim);
            directives.find_map(|directive| {
                let (name, seconds) = directive.split_once('=')?;
                name.eq_ignore_ascii_case("max-age")
                    .then(|| seconds.trim_matches('"').parse::<u64>().ok())?
            })
        });
    Some(match max_age {
        Some(seconds) if seconds > 0 => Finding::pass(
            CHECK,
            format!(
                "Strict-Transport-Security holds for {} days",
                seconds / 86_400
            ),
        ),
        _ => Finding::warn(
            CHECK,
            "there is no Strict-Transport-Security, or it is switched off",
            "have the proxy leave the header as the service sends it",
        ),
    })
}

/// How long the certificate is good for.
pub(super) fn certificate(now: Timestamp, not_after: Option<Timestamp>) -> Finding {
    const CHECK: &str = "service.certificate";
    let Some(not_after) = not_after else {
        return Finding::skip(CHECK, "it is accepted; when it ends could not be read");
    };
    let days = (not_after.as_second() - now.as_second()).div_euclid(DAY_SECONDS);
    let seen = format!("it is accepted, and good for {days} days more");
    if days < DAYS_LEFT {
        return Finding::warn(
            CHECK,
            seen,
            "renew it; after that, SIGHUP has the service read it anew",
        );
    }
    Finding::pass(CHECK, seen)
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::answer;
    use super::super::finding::Outcome::{Fail, Pass, Skip, Warn};
    use super::*;

    fn service() -> Origin {
        "https://auth.example.org".parse().unwrap()
    }

    fn told(issuer: &str, keys: &str) -> Answer {
        answer(
            200,
            &[],
            &format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}"}}"#),
        )
    }

    #[test]
    fn it_calls_itself_by_the_name_it_is_called_by() {
        let own = "https://auth.example.org";
        let keys = "https://auth.example.org/.well-known/jwks.json";
        let check = |issuer, told: &Answer| metadata(&service(), issuer, told).outcome;
        assert_eq!(check(None, &told(own, keys)), Pass);
        assert_eq!(check(Some(own), &told(own, keys)), Pass);
        assert_eq!(check(Some("https://other.example"), &told(own, keys)), Fail);
        assert_eq!(check(None, &told("http://auth.example.org", keys)), Fail);
        assert_eq!(
            check(None, &told(own, "https://auth.example.org.evil.example/k")),
            Fail
        );
        assert_eq!(check(None, &answer(404, &[], "")), Fail);
    }

    #[test]
    fn keys_that_cannot_be_read_are_refused() {
        assert_eq!(keys(&answer(200, &[], "<html>")).0.outcome, Fail);
        assert_eq!(keys(&answer(502, &[], "")).0.outcome, Fail);
        let empty = r#"{"keys":[]}"#;
        assert_eq!(keys(&answer(200, &[], empty)).0.outcome, Warn);
        let cached = [("cache-control", "public, max-age=600")];
        assert_eq!(keys(&answer(200, &cached, empty)).0.outcome, Pass);
    }

    #[test]
    fn clocks_are_compared() {
        let sent: Timestamp = "2026-11-24T10:00:00.4Z".parse().unwrap();
        let now: Timestamp = "2026-11-24T10:00:02.1Z".parse().unwrap();
        for (date, expected) in [
            ("Tue, 24 Nov 2026 10:00:01 GMT", Pass),
            ("Tue, 24 Nov 2026 10:00:06 GMT", Pass),
            ("Tue, 24 Nov 2026 10:00:30 GMT", Warn),
            ("Tue, 24 Nov 2026 09:59:30 GMT", Warn),
            ("Tue, 24 Nov 2026 09:00:00 GMT", Fail),
            ("Tue, 24 Nov 2026 11:00:00 GMT", Fail),
            ("yesterday", Warn),
        ] {
            let found = clock(sent, now, &answer(200, &[("date", date)], ""));
            assert_eq!(found.outcome, expected, "{date}: {found:?}");
        }
    }

    #[test]
    fn nothing_is_kept_on_the_way() {
        let check = |headers: &[(&str, &str)]| caches(&answer(200, headers, "")).outcome;
        let good = ("cache-control", "no-store");
        assert_eq!(check(&[good]), Pass);
        assert_eq!(check(&[good, ("age", "0")]), Pass);
        assert_eq!(check(&[good, ("age", "12")]), Fail);
        assert_eq!(check(&[("cache-control", "public, max-age=60")]), Fail);
        assert_eq!(check(&[]), Fail);
    }

    #[test]
    fn https_is_kept_to() {
        let check = |value| {
            let answer = answer(200, &[("strict-transport-security", value)], "");
            hsts(&service(), &answer).unwrap().outcome
        };
        assert_eq!(check("max-age=63072000; includeSubDomains"), Pass);
        assert_eq!(check("includeSubDomains; Max-Age=\"60\""), Pass);
        assert_eq!(check("max-age=0"), Warn);
        assert!(
            hsts(
                &"http://localhost:8000".parse().unwrap(),
                &answer(200, &[], "")
            )
            .is_none()
        );
    }

    #[test]
    fn a_certificate_is_renewed_in_time() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let until = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            certificate(now, until("2027-01-01T00:00:00Z")).outcome,
            Pass
        );
        assert_eq!(
            certificate(now, until("2026-12-01T00:00:00Z")).outcome,
            Warn
        );
        assert_eq!(certificate(now, None).outcome, Skip);
    }
}
