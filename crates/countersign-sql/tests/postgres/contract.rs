//! The suite that every store passes: directly, and as behind a pooler.

mod direct {
    use crate::harness::Database;

    countersign_core::store_contract!(
        ignored: "needs PostgreSQL's server programs",
        async || Database::new().await.store().await
    );
}

mod pooled {
    use crate::harness::Database;

    countersign_core::store_contract!(
        ignored: "needs PostgreSQL's server programs",
        async || Database::new().await.store_as_behind_a_pooler().await
    );
}
