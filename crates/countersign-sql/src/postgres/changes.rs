//! What transitions tell other nodes, written in their own statements.
//!
//! Each change is a row of `countersign_change` and, when the transaction commits, a notification of
//! the same words to whoever listens.

/// The channel that nodes listen to.
pub(super) const CHANNEL: &str = "countersign_change";

/// A `told` for a statement's WITH: writes the words that a query gives, of origin `$1`.
macro_rules! told {
    ($($words:tt)*) => {
        concat!(
            "told AS (INSERT INTO countersign_change (origin, said) SELECT $1, words.said FROM (",
            $($words)*,
            ") AS words (said)
              RETURNING pg_notify('countersign_change', origin || ' ' || said))"
        )
    };
}
pub(super) use told;

/// The words for the rows of `ended`, which has the columns of a session.
macro_rules! said_ended {
    () => {
        "SELECT 'session_ended ' || ended.id || ' ' || ended.user_id || ' ' || ended.ended_at
             || ' ' || ended.end_reason || ' ' || ended.ended_by FROM ended"
    };
}
pub(super) use said_ended;

/// The words for the rows of a table or alias that has a user's number.
macro_rules! said_user_changed {
    ($table:literal) => {
        concat!("SELECT 'user_changed ' || ", $table, ".id FROM ", $table)
    };
}
pub(super) use said_user_changed;
