//! What is done from time to time: sessions whose limit has passed end, those that ended long ago go.

use std::sync::Arc;

use crate::harness::{Client, Service, Setup, service_with_ana};
use crate::troubled_store::{Trouble, TroubledStore};
use countersign::core::audit::Trail;
use countersign::core::auth::UpkeepReport;
use countersign::core::clock::SystemRandomness;
use countersign::core::session::{EndReason, EndedBy, Session, SessionId};
use countersign::core::store::OpenSession;
use http::StatusCode;
use jiff::SignedDuration;

const DAY: i64 = 24 * 3_600;

async fn upkeep(service: &Service) -> UpkeepReport {
    service.auth.do_upkeep().await.unwrap()
}

fn did(sessions_expired: u32, sessions_removed: u32) -> UpkeepReport {
    UpkeepReport {
        throttles_removed: 0,
        audit_removed: 0,
        mailed_tokens_removed: 0,
        had_the_turn: true,
        sessions_expired,
        sessions_removed,
    }
}

async fn stored(service: &Service, client: &Client) -> Option<Session> {
    let id = client.session_id().parse().unwrap();
    let found = service.store.find_session(id).await.unwrap();
    found.map(|(session, _)| session)
}

#[tokio::test]
async fn a_session_left_alone_ends_at_its_limit_by_the_service() {
    let (service, _, mut ana) = service_with_ana().await;
    let left_alone = service.signed_in("ana").await;
    let opened = service.session_of(&left_alone).await.opened_at;
    service.later(6 * DAY);
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(upkeep(&service).await, did(0, 0));
    service.later(DAY + 7);
    assert_eq!(upkeep(&service).await, did(1, 0));
    let end = service.session_of(&left_alone).await.end.unwrap();
    assert_eq!((end.reason, end.by), (EndReason::Expired, EndedBy::Service));
    assert_eq!(end.at, opened + SignedDuration::from_secs(7 * DAY));
    // Whoever was there goes on.
    assert_eq!(service.session_of(&ana).await.end, None);
    ana.refresh().await.expect(StatusCode::OK);
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn what_has_expired_stays_so_when_the_clock_is_set_back() {
    let (service, _, mut ana) = service_with_ana().await;
    service.later(7 * DAY);
    assert_eq!(upkeep(&service).await, did(1, 0));
    service.later(-DAY);
    let ended = ana.refresh().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "expired");
}

#[tokio::test]
async fn however_much_it_is_used_a_session_ends_after_thirty_days() {
    let (service, _, mut ana) = service_with_ana().await;
    for _ in 0..29 {
        service.later(DAY);
        ana.refresh().await.expect(StatusCode::OK);
        assert_eq!(upkeep(&service).await, did(0, 0));
    }
    service.later(DAY);
    assert_eq!(upkeep(&service).await, did(1, 0));
}

#[tokio::test]
async fn why_a_session_ended_is_kept_for_thirty_days() {
    let (service, _, mut ana) = service_with_ana().await;
    let held = ana.clone();
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    service.later(30 * DAY);
    assert_eq!(upkeep(&service).await, did(0, 0));
    let end = stored(&service, &held).await.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Logout);
    let alive = service.signed_in("ana").await;
    service.later(60);
    assert_eq!(upkeep(&service).await, did(0, 1));
    assert_eq!(stored(&service, &held).await, None);
    alive.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn how_long_it_is_kept_is_a_setting() {
    let mut setup = Setup::development();
    setup.auth.keep_ended_sessions = std::time::Duration::from_hours(1);
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut ana = service.signed_in("ana").await;
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    service.later(3_600);
    assert_eq!(upkeep(&service).await, did(0, 0));
    service.later(60);
    assert_eq!(upkeep(&service).await, did(0, 1));
}

#[tokio::test]
async fn many_sessions_are_looked_through_in_one_round() {
    let (service, _, ana) = service_with_ana().await;
    let template = service.session_of(&ana).await;
    let verified = service.store.find_credentials("ana").await.unwrap();
    let verified = verified.unwrap().password;
    for number in 0..1_700 {
        let at = template.opened_at + SignedDuration::from_secs(number);
        let session = Session {
            id: SessionId::new(at, &SystemRandomness),
            opened_at: at,
            rotated_at: at,
            ..template.clone()
        };
        let opening = OpenSession {
            session,
            verified: verified.clone(),
            upgraded: None,
            replaced: None,
            most: None,
            trail: Trail::default(),
        };
        service.store.open_session(&opening).await.unwrap();
    }
    service.later(7 * DAY);
    // The template and the first: opened at this time or earlier.
    assert_eq!(upkeep(&service).await, did(2, 0));
    service.later(1_700);
    assert_eq!(upkeep(&service).await, did(1_699, 0));
}

#[tokio::test]
async fn of_several_processes_one_at_a_time_has_the_turn() {
    let (service, _, _) = service_with_ana().await;
    let beside = service.setup_beside().start().await;
    service.later(7 * DAY);
    assert_eq!(upkeep(&service).await, did(1, 0));
    assert_eq!(upkeep(&beside).await, UpkeepReport::default());
    service.later(49);
    assert_eq!(upkeep(&service).await, UpkeepReport::default());
    // Before a minute is over it is anybody's again.
    service.later(1);
    assert_eq!(upkeep(&beside).await, did(0, 0));
    assert_eq!(upkeep(&service).await, UpkeepReport::default());
    // A turn that was taken under a clock that is set back does not keep everybody out.
    service.later(-DAY);
    assert_eq!(upkeep(&service).await, did(0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_processes_that_begin_at_once_take_one_turn() {
    let (service, _, _) = service_with_ana().await;
    let mut processes = Vec::new();
    for _ in 0..16 {
        processes.push(service.setup_beside().start().await);
    }
    service.later(7 * DAY);
    let mut working = tokio::task::JoinSet::new();
    for process in processes {
        working.spawn(async move { upkeep(&process).await });
    }
    let mut reports = working.join_all().await;
    reports.retain(|report| report.had_the_turn);
    assert_eq!(reports, [did(1, 0)]);
}

#[tokio::test]
async fn a_round_that_fails_is_made_up_for() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development().over(Arc::clone(&store) as _);
    let service = service.start().await;
    service.make_user("ana").await;
    service.signed_in("ana").await;
    service.later(7 * DAY);
    for trouble in [Trouble::ReadOnly, Trouble::Unavailable] {
        store.have(trouble);
        assert!(service.auth.do_upkeep().await.is_err());
        store.recover();
    }
    assert_eq!(upkeep(&service).await, did(1, 0));
}

#[tokio::test]
async fn a_clock_that_has_just_jumped_ends_and_removes_nothing() {
    let (service, _, mut ana) = service_with_ana().await;
    let signed_out = service.signed_in("ana").await;
    signed_out
        .clone()
        .logout()
        .await
        .expect(StatusCode::NO_CONTENT);
    assert_eq!(upkeep(&service).await, did(0, 0));
    // No time has passed; somebody has set the clock.
    service.clock.set(SignedDuration::from_secs(60 * DAY));
    for _ in 0..3 {
        assert_eq!(upkeep(&service).await, did(0, 0));
        service.later(60);
    }
    service.clock.set(SignedDuration::from_secs(-60 * DAY));
    assert_eq!(upkeep(&service).await, did(0, 0));
    ana.refresh().await.expect(StatusCode::OK);
    signed_out.user().await.refused(401, "session_ended");
    // A time that has stood for an hour is the time.
    service.clock.set(SignedDuration::from_secs(60 * DAY));
    assert_eq!(upkeep(&service).await, did(0, 0));
    service.later(3_600);
    assert_eq!(upkeep(&service).await, did(1, 1));
}
