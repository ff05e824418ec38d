//! The whole way of somebody who signs in: login, refresh, sign-out.

use countersign_token::JsonWebKeySet;
use countersign_token::Verifier;

use super::answer::Answer;
use super::finding::Finding;

/// The sign-in.
pub(super) fn login(answer: &Answer) -> Finding {
    const CHECK: &str = "journey.login";
    if answer.status == 200 {
        return Finding::pass(CHECK, "signed in");
    }
    let remedy = match answer.code().as_deref() {
        Some("invalid_credentials") => "give the right password: everything after this needs it",
        Some("throttled") => "wait, and ask again",
        Some("user_inactive") => "take another user: this one is switched off",
        _ => "see the checks before this",
    };
    Finding::fail(
        CHECK,
        format!("the sign-in is answered {}", answer.shown()),
        remedy,
    )
}

/// Whether the keys that are published verify the token that was signed.
pub(super) fn token(answer: &Answer, issuer: &str, keys: Option<&JsonWebKeySet>) -> Finding {
    const CHECK: &str = "journey.token";
    let body = answer.json().unwrap_or_default();
    let token = body["access_token"].as_str().unwrap_or_default();
    let Some(keys) = keys.filter(|keys| !keys.keys().is_empty()) else {
        return Finding::skip(CHECK, "there are no public keys to verify the token with");
    };
    let claimed = audience(token);
    let mut verifier = Verifier::builder(issuer).keys(keys.verifying_keys());
    if let Some(audience) = claimed {
        verifier = verifier.audience(audience);
    }
    match verifier.build().verify(token) {
        Ok(_) => Finding::pass(CHECK, "the published keys verify the access token"),
        Err(refusal) => Finding::fail(
            CHECK,
            format!("the published keys do not verify the access token: {refusal}"),
            "token and keys are of different services, or the keys came out of a cache, or the clocks \
             disagree",
        ),
    }
}

/// Whom the token says that it is for: which resource server that is, is not the question here.
fn audience(token: &str) -> Option<String> {
    let claims = countersign_token::base64url::decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let audience = &claims["aud"];
    let first = audience
        .as_array()
        .and_then(|all| all.first())
        .unwrap_or(audience);
    Some(first.as_str()?.to_owned())
}

/// The refresh, for which cookie and CSRF token are shown.
pub(super) fn refresh(answer: &Answer) -> Finding {
    const CHECK: &str = "journey.refresh";
    if answer.status == 200 {
        return Finding::pass(CHECK, "refreshed: Cookie and X-CSRFToken arrive");
    }
    let remedy = match answer.code().as_deref() {
        Some("csrf_missing") => "X-CSRFToken does not arrive: have the proxy pass it on",
        Some("csrf_invalid") => "X-CSRFToken arrives changed: have the proxy pass it on as it is",
        Some("refresh_missing") => {
            "the refresh cookie does not arrive: have the proxy pass Cookie on"
        }
        Some("refresh_invalid") => {
            "the refresh cookie arrives changed, or at another service with another root secret"
        }
        _ => "see the checks before this",
    };
    Finding::fail(
        CHECK,
        format!("the refresh is answered {}", answer.shown()),
        remedy,
    )
}

/// The sign-out, which leaves nothing behind.
pub(super) fn logout(answer: &Answer) -> Finding {
    const CHECK: &str = "journey.logout";
    if answer.status == 204 {
        return Finding::pass(CHECK, "signed out: nothing is left of this");
    }
    Finding::fail(
        CHECK,
        format!("the sign-out is answered {}", answer.shown()),
        "end the session by hand: `countersign session list USER`, `countersign session end ID`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::answer;
    use super::super::finding::Outcome::{Fail, Pass, Skip};
    use super::*;

    fn refused(status: u16, code: &str) -> Answer {
        answer(status, &[], &format!("{{\"code\":\"{code}\"}}"))
    }

    #[test]
    fn what_is_lost_on_the_way_is_named() {
        for (code, word) in [
            ("csrf_missing", "X-CSRFToken does not arrive"),
            ("csrf_invalid", "changed"),
            ("refresh_missing", "Cookie"),
            ("refresh_invalid", "root secret"),
        ] {
            let found = refresh(&refused(403, code));
            assert_eq!(found.outcome, Fail);
            assert!(found.remedy.as_ref().unwrap().contains(word), "{found:?}");
        }
        assert_eq!(refresh(&answer(200, &[], "{}")).outcome, Pass);
    }

    #[test]
    fn a_wrong_password_is_not_the_services_fault() {
        let found = login(&refused(401, "invalid_credentials"));
        assert!(found.remedy.unwrap().contains("right password"));
        assert_eq!(login(&answer(200, &[], "{}")).outcome, Pass);
    }

    #[test]
    fn without_keys_no_token_is_verified() {
        let found = token(
            &answer(200, &[], r#"{"access_token":"a.b.c"}"#),
            "https://a.example",
            None,
        );
        assert_eq!(found.outcome, Skip);
    }

    #[test]
    fn what_was_not_signed_with_them_is_refused() {
        let keys = JsonWebKeySet::parse(
            br#"{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"Ed25519","use":"sig","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        );
        let found = token(
            &answer(200, &[], r#"{"access_token":"e30.e30.AAAA"}"#),
            "https://a.example",
            keys.ok().as_ref(),
        );
        assert!(matches!(found.outcome, Fail), "{found:?}");
    }

    #[test]
    fn a_session_that_may_be_left_is_told_of() {
        assert_eq!(logout(&answer(204, &[], "")).outcome, Pass);
        assert_eq!(logout(&refused(503, "overloaded")).outcome, Fail);
    }
}
