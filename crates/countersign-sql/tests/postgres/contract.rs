//! The suite that every store passes: directly, as behind a pooler, and with the sessions in partitions.

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

mod partitioned {
    use crate::harness::Database;

    countersign_core::store_contract!(
        ignored: "needs PostgreSQL's server programs",
        async || Database::new().await.store_with_partitions().await
    );
}
