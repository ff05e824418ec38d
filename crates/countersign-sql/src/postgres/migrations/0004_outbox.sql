-- What people are told by mail, kept by the transaction that it tells of. It is due when `due_at` has
-- passed; whoever claims it sets that to the end of the claim.
CREATE TABLE countersign_outbox (
    id uuid NOT NULL PRIMARY KEY,
    recipient text NOT NULL,
    username text NOT NULL,
    message text NOT NULL, -- password_changed and by whom
    queued_at bigint NOT NULL,
    due_at bigint NOT NULL,
    attempts bigint NOT NULL
);

CREATE INDEX countersign_outbox_due ON countersign_outbox (due_at);
