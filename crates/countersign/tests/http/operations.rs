//! `/healthz` and `/readyz`, on the listener that only the operator reaches.

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
