-- What happened, kept by the transaction that it tells of. Entries are only added, and removed when they are
-- old. Numbers are given before the commit and so do not tell what is new; the transaction does: whoever
-- follows the log reads up to the oldest one that is still open, and misses none. Times are milliseconds
-- since 1970. `user_id` is no foreign key: an entry outlives its user.
CREATE TABLE countersign_audit (
    number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    transaction bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    at bigint NOT NULL,
    event text NOT NULL,
    user_id bigint,
    session uuid,
    actor text, -- user:<id>, command_line or service; NULL: somebody who has proved nothing
    address text,
    user_agent text,
    request_id text,
    details text NOT NULL, -- an object in JSON
    count bigint NOT NULL
);

CREATE INDEX countersign_audit_transaction ON countersign_audit (transaction, number);
CREATE INDEX countersign_audit_at ON countersign_audit (at, number);
CREATE INDEX countersign_audit_user ON countersign_audit (user_id, at, number);
CREATE INDEX countersign_audit_event ON countersign_audit (event, at, number);
CREATE INDEX countersign_audit_session ON countersign_audit (session) WHERE session IS NOT NULL;
