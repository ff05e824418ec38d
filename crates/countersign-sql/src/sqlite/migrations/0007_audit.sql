-- What happened, kept by the transaction that it tells of. Entries are only added, and removed when they are
-- old. AUTOINCREMENT, so that whoever follows them by number misses none. Times are milliseconds since 1970.
-- `user_id` is no foreign key: an entry outlives its user.
CREATE TABLE countersign_audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    user_id INTEGER,
    session BLOB CHECK (length(session) = 16),
    actor TEXT, -- user:<id>, command_line or service; NULL: somebody who has proved nothing
    address TEXT,
    user_agent TEXT,
    request_id TEXT,
    details TEXT NOT NULL, -- an object in JSON
    count INTEGER NOT NULL
);

CREATE INDEX countersign_audit_at ON countersign_audit (at);
CREATE INDEX countersign_audit_user ON countersign_audit (user_id, at);
CREATE INDEX countersign_audit_event ON countersign_audit (event, at);
CREATE INDEX countersign_audit_session ON countersign_audit (session) WHERE session IS NOT NULL;
