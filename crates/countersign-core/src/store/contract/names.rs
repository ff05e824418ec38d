//! Names: no two users are made of whom one could be taken for the other.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{by_service, new_user, user};
use crate::audit::Trail;
use crate::store::{CreateUserError, NotedNames, Store};

/// Whatever looks like a name that somebody has, in small letters or in capitals.
pub async fn a_name_that_looks_like_anothers_is_refused(store: Arc<dyn Store>) {
    user(&*store, "lana").await;
    // A capital I, a digit, and two letters that are Cyrillic.
    for alike in ["LANA", "Iana", "1ana", "l\u{430}n\u{430}"] {
        let refused = store.create_user(&new_user(alike), &Trail::default()).await;
        assert!(
            matches!(refused, Err(CreateUserError::UsernameTaken)),
            "{alike}: {refused:?}"
        );
    }
    for other in ["lanna", "lana2", "l\u{e5}na"] {
        user(&*store, other).await;
    }
    let found = store.find_credentials("LANA").await.unwrap();
    assert!(found.is_none(), "a name is looked up to the letter");
}

/// A name is free again when its user is deleted.
pub async fn a_deleted_users_name_is_free(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    store
        .delete_user(ana.id, by_service(), &Trail::default())
        .await
        .unwrap();
    user(&*store, "Ana").await;
}

/// Each would be accepted, were it alone.
pub async fn of_many_alike_at_once_exactly_one_is_made(store: Arc<dyn Store>) {
    for round in 0..5 {
        let mut racing = JoinSet::new();
        for name in ["bob", "Bob", "BOB", "b0b", "BoB", "boB", "bOb", "b\u{43e}b"] {
            let store = Arc::clone(&store);
            let new = new_user(&format!("{name}-{round}"));
            racing.spawn(async move { store.create_user(&new, &Trail::default()).await });
        }
        let outcomes = racing.join_all().await;
        let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(made, 1, "{outcomes:?}");
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(
                matches!(refused, CreateUserError::UsernameTaken),
                "{refused:?}"
            );
        }
    }
}

/// Of users whom the store itself has made there is nothing to note.
pub async fn names_are_known_once_their_users_are_made(store: Arc<dyn Store>) {
    for name in ["ana", "bob", "carol"] {
        user(&*store, name).await;
    }
    let noted = store.note_names(None, 10).await.unwrap();
    let nothing = NotedNames {
        next: None,
        noted: 0,
    };
    assert_eq!(noted, nothing);
}
