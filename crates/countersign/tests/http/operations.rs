//! `/healthz`, `/readyz` and `/metrics`, on the listener that only the operator reaches.

use std::sync::Arc;

use crate::harness::{Setup, service_with_ana};
use crate::troubled_store::{INNERMOST, Trouble, TroubledStore};
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn a_process_that_lives_and_works_says_so() {
    let (_service, operator, _) = service_with_ana().await;
    for (path, status) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let answer = operator.get(path).send_to_operations().await;
        let answer = answer.expect(StatusCode::OK);
        assert_eq!(answer.json, json!({"status": status}));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_process_without_storage_lives_and_is_not_ready() {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().over(Arc::clone(&store) as _);
    let operator = setup.start().await.visitor();
    for trouble in [Trouble::Unavailable, Trouble::ReadOnly] {
        store.have(trouble);
        let answer = operator.get("/healthz").send_to_operations().await;
        answer.expect(StatusCode::OK);
        let answer = operator.get("/readyz").send_to_operations().await;
        let answer = answer.refused(503, "storage_unavailable");
        assert_eq!(answer.header("retry-after"), "2");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(INNERMOST));
        store.recover();
        let answer = operator.get("/readyz").send_to_operations().await;
        answer.expect(StatusCode::OK);
    }
}

/// The names in the page's `# TYPE` lines, with their types.
fn metrics_of(page: &str) -> Vec<&str> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.collect()
}

#[tokio::test]
async fn metrics_count_what_happens_and_what_is_answered() {
    let (_service, mut visitor, ana) = service_with_ana().await;
    let refused = visitor.login("ana", "wrong and long enough").await;
    refused.refused(401, "invalid_credentials");
    ana.user().await.expect(StatusCode::OK);
    visitor
        .get("/nothing\"here")
        .send()
        .await
        .refused(404, "not_found");
    let call = ana.delete("/users/sessions/0199c0de-7b1c-7000-8000-0123456789ab");
    call.with_token()
        .with_csrf()
        .send()
        .await
        .refused(404, "not_found");

    let answer = visitor.get("/metrics").send_to_operations().await;
    let answer = answer.expect(StatusCode::OK);
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let page = String::from_utf8(answer.bytes).unwrap();
    let duration = "countersign_http_request_duration_seconds_count";
    for line in [
        "countersign_events_total{event=\"login_refused\",reason=\"wrong_password\"} 1",
        "countersign_events_total{event=\"login_succeeded\",reason=\"\"} 1",
        &format!("{duration}{{route=\"/users/login\",method=\"POST\",status=\"2xx\"}} 1"),
        &format!("{duration}{{route=\"/users/login\",method=\"POST\",status=\"4xx\"}} 1"),
        &format!("{duration}{{route=\"/users/user\",method=\"GET\",status=\"2xx\"}} 1"),
        &format!(
            "{duration}{{route=\"/users/sessions/{{id}}\",method=\"DELETE\",status=\"4xx\"}} 1"
        ),
        &format!("{duration}{{route=\"none\",method=\"GET\",status=\"4xx\"}} 1"),
        "countersign_changes_heard 1",
        "countersign_hashing_waiting 0",
    ] {
        assert!(
            page.lines().any(|told| told == line),
            "{line} is not in\n{page}"
        );
    }
    // Each line is a comment or a sample, and each sample belongs to a metric that was declared.
    let declared = metrics_of(&page);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        let of = |metric: &&str| name.starts_with(metric.split(' ').next().unwrap());
        assert!(declared.iter().any(of), "{line}");
    }
}

#[tokio::test]
async fn metrics_tell_of_mail_that_waits_and_of_refusals_that_are_remembered() {
    let service = Setup::development().with_mail().start().await;
    service.make_user("ana").await;
    let visitor = service.visitor();
    let tells = async |line: &str| {
        let answer = visitor.get("/metrics").send_to_operations().await;
        let page = String::from_utf8(answer.bytes).unwrap();
        page.lines().any(|told| told == line)
    };
    assert!(!tells("countersign_mail_waiting{tried=\"no\"} 0").await);
    let call = visitor.post("/users/password/reset");
    let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
    answer.expect(StatusCode::ACCEPTED);
    service.auth.count_mail().await.unwrap();
    assert!(tells("countersign_mail_waiting{tried=\"no\"} 1").await);
    assert!(tells("countersign_mail_waiting{tried=\"yes\"} 0").await);
    assert!(tells("countersign_throttle_refusals_remembered 0").await);
    for _ in 0..6 {
        visitor.clone().login("ana", "wrong and long enough").await;
    }
    assert!(tells("countersign_throttle_refusals_remembered 1").await);
    assert!(tells("countersign_changes_silent_seconds 0").await);
}

#[tokio::test]
async fn every_metric_is_in_the_reference_and_nothing_else_is() {
    let service = Setup::development().start().await;
    let answer = service.visitor().get("/metrics").send_to_operations().await;
    let page = String::from_utf8(answer.bytes).unwrap();
    let reference = include_str!("../../../../docs/operations.md");
    let (_, section) = reference.split_once("\n## Metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: Vec<_> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            format!("{name} {}", rest.split(" |").next().unwrap())
        })
        .collect();
    assert_eq!(documented, metrics_of(&page));
}

#[tokio::test]
async fn health_checks_come_by_address_and_plain_http() {
    // Whatever calls them knows neither our name nor our certificate.
    let service = Setup::behind_a_proxy().start().await;
    let operator = service.visitor();
    for host in ["10.1.2.3:9000", "localhost"] {
        let call = operator.get("/healthz").header("host", host);
        call.send_to_operations().await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn the_public_listener_knows_nothing_of_operations_nor_the_other_way_round() {
    let (_service, visitor, _) = service_with_ana().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        visitor.get(path).send().await.refused(404, "not_found");
    }
    for path in ["/users/login", "/users/user", "/docs", "/"] {
        let answer = visitor.get(path).send_to_operations().await;
        answer.refused(404, "not_found");
    }
    let answer = visitor.post("/healthz").send_to_operations().await;
    let answer = answer.refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET,HEAD");
}
