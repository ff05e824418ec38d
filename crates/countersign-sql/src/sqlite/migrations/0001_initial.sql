-- Times are milliseconds since 1970. `user_id` is no foreign key: the users table is Django's to
-- change, and a session outlives its user as the record of how it ended.
--
-- Without a rowid the row lies in the tree of its id: a rotation writes one page.
CREATE TABLE countersign_session (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    rotated_at INTEGER NOT NULL,
    remember INTEGER NOT NULL,
    address TEXT,
    user_agent TEXT,
    ended_at INTEGER,
    end_reason TEXT,
    ended_by TEXT, -- user:<id>, command_line or service
    CHECK ((ended_at IS NULL) = (end_reason IS NULL) AND (ended_at IS NULL) = (ended_by IS NULL))
) WITHOUT ROWID;

CREATE INDEX countersign_session_live_by_user ON countersign_session (user_id)
    WHERE ended_at IS NULL;

-- The greatest number is the newest key.
CREATE TABLE countersign_signing_key (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kid TEXT NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    state TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE UNIQUE INDEX countersign_signing_key_one_current ON countersign_signing_key (state)
    WHERE state = 'current';

-- What other processes must hear of. AUTOINCREMENT, so that a number is never given again and
-- whoever remembers the last one it saw finds exactly what came after.
CREATE TABLE countersign_change (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject, -- session_ended: the session's id (BLOB); user_changed: the user's (INTEGER)
    origin INTEGER NOT NULL, -- the opened store that wrote it and has told its own process
    at INTEGER NOT NULL
);
