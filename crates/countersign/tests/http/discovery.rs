//! What resource servers, clients and people can find out: keys, metadata, the description.

use crate::harness::{LISTED, Setup, decoded, service_with_ana};
use countersign::core::keys::{SharedSecret, SigningAlgorithm};
use countersign_token::{JsonWebKeySet, UnixSeconds, Verifier};
use http::{Method, StatusCode};
use serde_json::Value;

const KEYS: &str = "/.well-known/jwks.json";
const METADATA: &str = "/.well-known/oauth-authorization-server";

#[tokio::test]
async fn the_key_set_verifies_our_tokens() {
    let (service, visitor, ana) = service_with_ana().await;
    let answer = visitor.get(KEYS).send().await.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "public, max-age=600");
    let keys = JsonWebKeySet::parse(&answer.bytes).unwrap();
    let issuer = service.settings.public_url.as_str();
    let verifier = Verifier::builder(issuer)
        .keys(keys.verifying_keys())
        .build();
    let now = UnixSeconds::new(ana.claims()["iat"].as_u64().unwrap());
    let token = verifier.verify_at(ana.token(), now).unwrap();
    assert_eq!(token.user_id, 1);
}

#[tokio::test]
async fn the_key_set_shows_the_public_half_only() {
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
        let mut setup = Setup::development();
        setup.auth.tokens.algorithm = algorithm;
        let service = setup.start().await;
        let mut answer = service.visitor().get(KEYS).send().await;
        let key = answer.json["keys"][0].as_object_mut().unwrap();
        for private in ["d", "k", "p", "q", "dp", "dq", "qi", "oth"] {
            assert!(!key.contains_key(private), "{private}");
        }
        for changing in ["kid", "x", "y"] {
            if let Some(value) = key.get_mut(changing) {
                assert_eq!(value.as_str().unwrap().len(), 43);
                *value = format!("[{changing}]").into();
            }
        }
        insta::assert_json_snapshot!(answer.json);
    }
}

#[tokio::test]
async fn a_shared_secret_is_not_published() {
    let mut setup = Setup::development();
    let secret = SharedSecret::parse(&setup.secret.to_text()).unwrap();
    setup.auth.tokens.algorithm = SigningAlgorithm::Hs256(secret);
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let answer = ana.get(KEYS).send().await.expect(StatusCode::OK);
    assert_eq!(answer.bytes, br#"{"keys":[]}"#);
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn who_has_the_key_set_already_is_spared_it() {
    let (_service, visitor, _) = service_with_ana().await;
    let first = visitor.get(KEYS).send().await.expect(StatusCode::OK);
    let tag = first.header("etag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let again = visitor.get(KEYS).header("if-none-match", tag);
    let again = again.send().await.expect(StatusCode::NOT_MODIFIED);
    assert!(again.bytes.is_empty());
    assert_eq!(again.header("etag"), tag);
    assert_eq!(again.header("cache-control"), "public, max-age=600");
    let stale = visitor.get(KEYS).header("if-none-match", "\"another\"");
    stale.send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_proxy_may_weaken_the_tag_or_list_several() {
    // RFC 9110, section 13.1.2; proxies that compress make strong tags weak.
    let (_service, visitor, _) = service_with_ana().await;
    let first = visitor.get(KEYS).send().await.expect(StatusCode::OK);
    let tag = first.header("etag");
    for tags in [
        format!("W/{tag}"),
        format!("\"another\", {tag}"),
        "*".to_owned(),
    ] {
        let again = visitor.get(KEYS).header("if-none-match", &tags);
        again.send().await.expect(StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test]
async fn the_metadata_says_who_we_are_and_where_the_keys_are() {
    let service = Setup::production().start().await;
    let visitor = service.visitor();
    let answer = visitor.get(METADATA).send().await.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "public, max-age=600");
    insta::assert_json_snapshot!(answer.json);
    let keys = answer.json["jwks_uri"].as_str().unwrap();
    let path = keys.strip_prefix("https://auth.example.org").unwrap();
    visitor.get(path).send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn tokens_are_signed_as_the_metadata_says() {
    for algorithm in [
        SigningAlgorithm::Es256,
        SigningAlgorithm::EdDsa,
        SigningAlgorithm::Ed25519,
    ] {
        let mut setup = Setup::development();
        setup.auth.tokens.algorithm = algorithm;
        let service = setup.start().await;
        service.make_user("ana").await;
        let ana = service.signed_in("ana").await;
        ana.user().await.expect(StatusCode::OK);
        let metadata = ana.get(METADATA).send().await.json;
        let header = decoded(ana.token().split('.').next().unwrap());
        assert_eq!(
            metadata["access_token_signing_alg_values_supported"][0],
            header["alg"]
        );
        assert_eq!(metadata["issuer"], ana.claims()["iss"]);
    }
}

#[tokio::test]
async fn the_description_of_the_api() {
    let (_service, visitor, _) = service_with_ana().await;
    let answer = visitor.get("/openapi.json").send().await;
    let answer = answer.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-cache");
    insta::assert_json_snapshot!(answer.json);
}

#[tokio::test]
async fn the_description_names_the_cookie_in_force() {
    let service = Setup::production().start().await;
    let answer = service.visitor().get("/openapi.json").send().await;
    let cookie = &answer.json["components"]["securitySchemes"]["refreshCookie"];
    assert_eq!(cookie["name"], "__Host-Http-refreshtoken");
}

#[tokio::test]
async fn whatever_the_description_lists_is_there() {
    let (_service, visitor, _) = service_with_ana().await;
    let description = visitor.get("/openapi.json").send().await.json;
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 7);
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = visitor.call(method.clone(), path).send().await;
            let missing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            assert!(!missing.contains(&answer.status), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_refusal_that_the_description_names_is_a_code_with_a_remedy() {
    let (_service, visitor, _) = service_with_ana().await;
    let description = visitor.get("/openapi.json").send().await.json;
    let known: Vec<_> = countersign::ErrorCode::ALL
        .iter()
        .map(|code| (code.as_str(), code.status().as_u16().to_string()))
        .collect();
    let mut named = 0;
    for operation in operations(&description) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if !status.starts_with(['4', '5']) {
                continue;
            }
            let text = response["description"].as_str().unwrap();
            for code in text.split('`').skip(1).step_by(2) {
                let there = known.contains(&(code, status.clone()));
                assert!(there, "{status} {code} is no code");
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named}");
    let text = description["info"]["description"].as_str().unwrap();
    for (code, _) in known {
        assert!(
            text.contains(&format!("`{code}`")),
            "{code} is not explained"
        );
    }
}

fn operations(description: &Value) -> Vec<&Value> {
    let paths = description["paths"].as_object().unwrap().values();
    paths
        .flat_map(|path| path.as_object().unwrap().values())
        .collect()
}

#[tokio::test]
async fn discovery_is_for_everybody_and_sets_no_cookies() {
    let (_service, visitor, ana) = service_with_ana().await;
    for path in [KEYS, METADATA, "/openapi.json"] {
        let anonymous = visitor.get(path).send().await.expect(StatusCode::OK);
        let known = ana.get(path).with_cookies().with_token();
        let known = known.on_page(LISTED).send().await.expect(StatusCode::OK);
        assert_eq!(anonymous.bytes, known.bytes);
        assert!(known.set_cookies().is_empty());
        // A cache in between keeps the answers for different pages apart.
        assert_eq!(anonymous.header("vary"), "origin");
        assert_eq!(known.header("vary"), "origin");
    }
}
