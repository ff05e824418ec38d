//! Signing keys come and go, and nobody is signed out for it; unless a key was revoked, and then its
//! tokens are refused at once.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Client, PASSWORD, Service, Setup, decoded, service_with_ana};
use crate::troubled_store::{Trouble, TroubledStore};
use countersign::core::auth::KeyRotation;
use countersign::core::clock::{Clock as _, SystemRandomness};
use countersign::core::error::{AuthError, StoreError};
use countersign::core::keys::SigningAlgorithm;
use countersign::core::secrets::RootSecret;
use countersign::core::session::EndedBy;
use countersign::core::store::KeyState;
use countersign_token::{JsonWebKeySet, RevocationList, UnixSeconds, Verifier};
use http::StatusCode;
use serde_json::Value;

const KEYS: &str = "/.well-known/jwks.json";
const HOUR: i64 = 3_600;

fn header(client: &Client) -> Value {
    decoded(client.token().split('.').next().unwrap())
}

fn signed_by(client: &Client) -> String {
    header(client)["kid"].as_str().unwrap().to_owned()
}

/// The names of the published keys, newest first.
async fn published(client: &Client) -> Vec<String> {
    let answer = client.get(KEYS).send().await.expect(StatusCode::OK);
    let keys = answer.json["keys"].as_array().unwrap().clone();
    let names = keys.iter().map(|key| key["kid"].as_str().unwrap());
    names.map(ToOwned::to_owned).collect()
}

fn now(service: &Service) -> UnixSeconds {
    let now = service.clock.now().as_second();
    UnixSeconds::new(now.try_into().unwrap())
}

/// What `keys rotate` does by default: publishes a key; gives its name.
async fn publish(service: &Service) -> String {
    match service
        .auth
        .rotate_keys(false, EndedBy::CommandLine)
        .await
        .unwrap()
    {
        KeyRotation::Published(key) => key.kid,
        other => panic!("{other:?}"),
    }
}

/// Has another key sign at once; gives its name.
async fn replace(service: &Service) -> String {
    match service
        .auth
        .rotate_keys(true, EndedBy::CommandLine)
        .await
        .unwrap()
    {
        KeyRotation::Signing(key) => key.kid,
        other => panic!("{other:?}"),
    }
}

async fn upkeep(service: &Service) {
    service.auth.do_upkeep().await.unwrap();
}

#[tokio::test]
async fn a_key_is_published_then_signs_and_the_old_one_stays_until_its_tokens_end() {
    let (service, visitor, mut ana) = service_with_ana().await;
    let old = signed_by(&ana);
    assert_eq!(published(&visitor).await, [&*old]);
    let new = publish(&service).await;
    assert_eq!(published(&visitor).await, [new.clone(), old.clone()]);
    service.later(HOUR - 1);
    upkeep(&service).await;
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(signed_by(&ana), old, "it does not sign yet");

    service.later(60);
    upkeep(&service).await;
    let signed_before = ana.clone();
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(signed_by(&ana), new);
    signed_before.user().await.expect(StatusCode::OK);
    ana.user().await.expect(StatusCode::OK);
    assert_eq!(published(&visitor).await, [new.clone(), old.clone()]);

    service.later(239);
    upkeep(&service).await;
    signed_before.user().await.expect(StatusCode::OK);
    service.later(211);
    upkeep(&service).await;
    assert_eq!(published(&visitor).await, [new]);
    signed_before.user().await.refused(401, "token_invalid");
}

#[tokio::test]
async fn a_rotation_that_is_under_way_is_not_begun_again() {
    let (service, visitor, ana) = service_with_ana().await;
    let new = publish(&service).await;
    for _ in 0..2 {
        match service
            .auth
            .rotate_keys(false, EndedBy::CommandLine)
            .await
            .unwrap()
        {
            KeyRotation::UnderWay(key) => assert_eq!(key.kid, new),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(published(&visitor).await, [new, signed_by(&ana)]);
}

#[tokio::test]
async fn a_published_key_can_be_made_to_sign_at_once() {
    let (service, visitor, mut ana) = service_with_ana().await;
    let (old, signed_before) = (signed_by(&ana), ana.clone());
    let next = publish(&service).await;
    assert_eq!(replace(&service).await, next);
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(signed_by(&ana), next);
    for client in [&ana, &signed_before] {
        client.user().await.expect(StatusCode::OK);
    }
    assert_eq!(published(&visitor).await, [next.clone(), old.clone()]);
    // And without one, a new one is made.
    let third = replace(&service).await;
    assert_eq!(published(&visitor).await, [third, next, old]);
}

#[tokio::test]
async fn keys_rotate_by_themselves_every_ninety_days() {
    let (service, visitor, ana) = service_with_ana().await;
    let first = signed_by(&ana);
    service.later(90 * 24 * HOUR - HOUR - 1);
    upkeep(&service).await;
    assert_eq!(published(&visitor).await, [&*first]);
    service.later(60);
    upkeep(&service).await;
    let [second, _] = &published(&visitor).await[..] else {
        panic!("two are published")
    };
    service.later(HOUR);
    upkeep(&service).await;
    let ana = service.signed_in("ana").await;
    assert_eq!(signed_by(&ana), *second);
}

/// A resource server that knows the service by its published keys only, and asks for them every ten
/// minutes, as it may.
struct ResourceServer {
    verifier: Verifier,
    asked_at: UnixSeconds,
}

impl ResourceServer {
    async fn start(service: &Service) -> Self {
        let issuer = service.settings.public_url.as_str();
        let server = Self {
            verifier: Verifier::builder(issuer).build(),
            asked_at: now(service),
        };
        server.ask(service).await;
        server
    }

    async fn ask(&self, service: &Service) {
        let answer = service.visitor().get(KEYS).send().await;
        let keys = JsonWebKeySet::parse(&answer.bytes).unwrap();
        self.verifier.replace_keys(keys.verifying_keys());
    }

    async fn accepts(&mut self, service: &Service, client: &Client) {
        let now = now(service);
        if now.get() - self.asked_at.get() >= 600 {
            self.ask(service).await;
            self.asked_at = now;
        }
        self.verifier.verify_at(client.token(), now).unwrap();
    }
}

#[tokio::test]
async fn nobody_is_refused_while_keys_rotate_from_one_algorithm_to_another() {
    let (before, _, mut ana) = service_with_ana().await;
    let mut servers = Vec::new();
    let mut setup = before.setup_beside();
    setup.auth.tokens.algorithm = SigningAlgorithm::EdDsa;
    // The old process goes on beside the new one for a while, as when one is replaced by the other.
    let after = setup.start().await;
    let mut algorithms = Vec::new();
    let mut signers = Vec::new();
    for minute in 0..3 * 60 {
        // Resource servers that last asked at all sorts of times.
        if minute < 10 {
            servers.push(ResourceServer::start(&after).await);
        }
        if minute % 4 == 0 {
            ana = after.called_by(&ana);
            ana.refresh().await.expect(StatusCode::OK);
            let header = header(&ana);
            algorithms.push(header["alg"].as_str().unwrap().to_owned());
            signers.push(signed_by(&ana));
        }
        for service in [&before, &after] {
            let client = service.called_by(&ana);
            client.user().await.expect(StatusCode::OK);
        }
        for server in &mut servers {
            server.accepts(&after, &ana).await;
        }
        after.later(60);
        upkeep(&after).await;
    }
    algorithms.dedup();
    assert_eq!(algorithms, ["ES256", "EdDSA"]);
    signers.dedup();
    assert_eq!(signers.len(), 2);
    assert_eq!(published(&ana).await, [signed_by(&ana)]);
}

#[tokio::test]
async fn tokens_of_a_revoked_key_are_refused_at_the_next_request() {
    let (service, visitor, mut ana) = service_with_ana().await;
    let (revoked, held) = (signed_by(&ana), ana.clone());
    held.user().await.expect(StatusCode::OK);
    service
        .auth
        .revoke_key(&revoked, EndedBy::CommandLine)
        .await
        .unwrap();
    let answer = held.user().await.refused(401, "token_invalid");
    assert!(
        answer
            .header("www-authenticate")
            .contains("error=\"invalid_token\"")
    );
    // Nobody is signed out: what a client does with this code is to refresh.
    ana.refresh().await.expect(StatusCode::OK);
    ana.user().await.expect(StatusCode::OK);
    assert_ne!(signed_by(&ana), revoked);
    assert_eq!(published(&visitor).await, [signed_by(&ana)]);
    let feed = visitor.get("/.well-known/revocations").send().await;
    let list = RevocationList::parse(&feed.bytes).unwrap();
    assert_eq!(list.keys.len(), 1);
    assert_eq!(list.keys[0].kid, revoked);
    for unknown in [&*revoked, "another"] {
        let refused = service
            .auth
            .revoke_key(unknown, EndedBy::CommandLine)
            .await
            .unwrap_err();
        assert!(matches!(refused, AuthError::NoSuchKey), "{refused}");
    }
}

#[tokio::test]
async fn a_key_can_be_revoked_before_it_has_signed_and_after() {
    let (service, visitor, mut ana) = service_with_ana().await;
    let current = signed_by(&ana);
    let next = publish(&service).await;
    service
        .auth
        .revoke_key(&next, EndedBy::CommandLine)
        .await
        .unwrap();
    assert_eq!(published(&visitor).await, [&*current]);
    ana.user().await.expect(StatusCode::OK);

    let old = ana.clone();
    replace(&service).await;
    ana.refresh().await.expect(StatusCode::OK);
    service
        .auth
        .revoke_key(&current, EndedBy::CommandLine)
        .await
        .unwrap();
    old.user().await.refused(401, "token_invalid");
    ana.user().await.expect(StatusCode::OK);
    let states = service.auth.list_keys().await.unwrap();
    let states: Vec<_> = states.iter().map(|key| key.state).collect();
    assert_eq!(
        states,
        [KeyState::Current, KeyState::Revoked, KeyState::Revoked]
    );
}

#[tokio::test]
async fn processes_over_one_store_follow_each_others_changes_of_keys() {
    let (here, _, ana) = service_with_ana().await;
    let there = here.setup_beside().start().await;
    let first = signed_by(&ana);
    replace(&here).await;
    // A token of the new key is known there, though that process did not make it.
    let tablet = here.signed_in("ana").await;
    there.called_by(&tablet).user().await.expect(StatusCode::OK);
    let phone = there.signed_in("ana").await;
    assert_eq!(signed_by(&phone), signed_by(&tablet));
    assert_eq!(published(&phone).await, published(&tablet).await);
    // What one revokes the other refuses.
    there
        .auth
        .revoke_key(&first, EndedBy::CommandLine)
        .await
        .unwrap();
    ana.user().await.refused(401, "token_invalid");
    let second = signed_by(&phone);
    here.auth
        .revoke_key(&second, EndedBy::CommandLine)
        .await
        .unwrap();
    phone.user().await.refused(401, "token_invalid");
    let again = there.signed_in("ana").await;
    assert_ne!(signed_by(&again), second);
    here.called_by(&again).user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_token_of_a_key_that_another_process_made_signs_out_as_well() {
    let (here, _, _) = service_with_ana().await;
    let there = here.setup_beside().start().await;
    for scope in ["local", "others", "global"] {
        replace(&here).await;
        let ana = there.called_by(&here.signed_in("ana").await);
        let call = ana.post("/users/logout").with_token().with_csrf();
        let call = call.json(&serde_json::json!({"scope": scope}));
        call.send().await.expect(StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn a_token_of_a_revoked_key_signs_nobody_out() {
    let (here, _, ana) = service_with_ana().await;
    let there = here.setup_beside().start().await;
    here.auth
        .revoke_key(&signed_by(&ana), EndedBy::CommandLine)
        .await
        .unwrap();
    for service in [&there, &here] {
        let client = service.called_by(&ana);
        let call = client.post("/users/logout").with_token().with_csrf();
        call.send().await.refused(401, "token_invalid");
    }
    ana.clone().refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_process_that_hears_nothing_learns_of_keys_all_the_same() {
    let store = Arc::new(TroubledStore::default());
    let here = Setup::development().over(Arc::clone(&store) as _);
    let here = here.start().await;
    here.make_user("ana").await;
    let there = here.setup_beside().over(Arc::new(store.beside()));
    let there = there.start().await;
    let ana = there.signed_in("ana").await;
    store.lose_the_feed();
    let new = replace(&there).await;
    let phone = there.signed_in("ana").await;
    here.called_by(&phone).user().await.expect(StatusCode::OK);
    assert_eq!(published(&here.visitor()).await[0], new);
    assert_eq!(signed_by(&here.signed_in("ana").await), new);
    there
        .auth
        .revoke_key(&signed_by(&ana), EndedBy::CommandLine)
        .await
        .unwrap();
    here.called_by(&ana)
        .user()
        .await
        .refused(401, "token_invalid");
    // And who cannot ask either knows nothing of an unknown key.
    store.have(Trouble::Unavailable);
    there
        .auth
        .revoke_key(&new, EndedBy::CommandLine)
        .await
        .unwrap();
    let tablet = there.signed_in("ana").await;
    for client in [&phone, &tablet] {
        let answer = here.called_by(client).user().await;
        answer.refused(503, "storage_unavailable");
    }
    store.recover();
    here.called_by(&phone)
        .user()
        .await
        .refused(401, "token_invalid");
    here.called_by(&tablet).user().await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_refused_while_keys_are_replaced_under_load() {
    let (service, _, ana) = service_with_ana().await;
    let service = Arc::new(service);
    let beside = Arc::new(service.setup_beside().start().await);
    let mut everybody = tokio::task::JoinSet::new();
    for number in 0..4 {
        let processes = [Arc::clone(&service), Arc::clone(&beside)];
        let mut client = processes[0].signed_in("ana").await;
        everybody.spawn(async move {
            for round in 0..50 {
                client = processes[(round + number) % 2].called_by(&client);
                client.refresh().await.expect(StatusCode::OK);
                for process in &processes {
                    let client = process.called_by(&client);
                    client.user().await.expect(StatusCode::OK);
                }
            }
        });
    }
    for _ in 0..20 {
        replace(&service).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    everybody.join_all().await;
    ana.user().await.expect(StatusCode::OK);
}

/// The same service with another root secret, which knows the one before or not.
fn with_another_secret(service: &Service, knows_the_old_one: bool) -> Setup {
    let mut setup = service.setup_beside();
    setup.secret = RootSecret::generate(&SystemRandomness);
    if knows_the_old_one {
        setup.previous_secrets = vec![service.secret.clone()];
    }
    setup
}

#[tokio::test]
async fn a_new_root_secret_signs_nobody_out_as_long_as_the_old_one_is_named() {
    let (service, _, ana) = service_with_ana().await;
    let mut fresh = service.signed_in("ana").await;
    let superseded = fresh.clone();
    fresh.refresh().await.expect(StatusCode::OK);
    let renewed = with_another_secret(&service, true).start().await;

    // Access tokens, CSRF tokens and refresh cookies from before.
    let mut ana = renewed.called_by(&ana);
    ana.user().await.expect(StatusCode::OK);
    let call = ana.patch("/users/user").with_token().with_csrf();
    let call = call.json(&serde_json::json!({"first_name": "Ana"}));
    call.send().await.expect(StatusCode::OK);
    let before = ana.clone();
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(signed_by(&ana), signed_by(&before), "the keys are the same");
    ana.user().await.expect(StatusCode::OK);
    ana.refresh().await.expect(StatusCode::OK);
    // Racing tabs and thieves are told apart as before.
    let mut replayed = renewed.called_by(&superseded);
    replayed.refresh().await.expect(StatusCode::OK);
    renewed.later(31);
    let mut thief = renewed.called_by(&superseded);
    thief.refresh().await.refused(401, "refresh_reused");
    // Whoever has refreshed since can do without the old secret, and so can the keys.
    let mut alone = renewed.setup_beside();
    alone.secret = renewed.secret.clone();
    let alone = alone.start().await;
    let mut ana = alone.called_by(&ana);
    ana.user().await.expect(StatusCode::OK);
    ana.refresh().await.expect(StatusCode::OK);
    // The others have to sign in again.
    let mut before = alone.called_by(&before);
    before.refresh().await.refused(401, "refresh_invalid");
    before.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn without_the_old_root_secret_nothing_opens_and_nothing_is_changed() {
    let (service, _, mut ana) = service_with_ana().await;
    let keys = service.store.signing_keys().await.unwrap();
    let refused = with_another_secret(&service, false).try_to_start().await;
    let Some(StoreError::Corrupt(why)) = refused.err() else {
        panic!("it starts, or the store is away")
    };
    assert!(why.contains("secrets.previous"), "{why}");
    assert_eq!(service.store.signing_keys().await.unwrap(), keys);
    ana.user().await.expect(StatusCode::OK);
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_key_ring_that_cannot_be_written_is_left_as_it_is() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development().over(Arc::clone(&store) as _);
    let service = service.start().await;
    service.make_user("ana").await;
    let mut ana = service.signed_in("ana").await;
    store.have(Trouble::ReadOnly);
    assert!(
        service
            .auth
            .rotate_keys(true, EndedBy::CommandLine)
            .await
            .is_err()
    );
    let revoked = service
        .auth
        .revoke_key(&signed_by(&ana), EndedBy::CommandLine)
        .await;
    assert!(matches!(revoked, Err(AuthError::Store(_))));
    ana.user().await.expect(StatusCode::OK);
    assert_eq!(published(&ana).await, [signed_by(&ana)]);
    store.recover();
    ana.refresh().await.expect(StatusCode::OK);
}
