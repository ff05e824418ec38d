-- What people are told by mail, kept by the transaction that it tells of. It is due when `due_at` has
-- passed; whoever claims it sets that to the end of the claim.
CREATE TABLE countersign_outbox (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    recipient TEXT NOT NULL,
    username TEXT NOT NULL,
    message TEXT NOT NULL, -- password_changed and by whom
    queued_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX countersign_outbox_due ON countersign_outbox (due_at);
