-- Times are milliseconds since 1970. `user_id` is no foreign key: the users table is Django's to
-- change, and a session outlives its user as the record of how it ended.
--
-- A rotation changes no indexed column: with room on the page it touches that page alone.
CREATE TABLE countersign_session (
    id uuid NOT NULL PRIMARY KEY,
    user_id bigint NOT NULL,
    generation bigint NOT NULL,
    opened_at bigint NOT NULL,
    rotated_at bigint NOT NULL,
    remember boolean NOT NULL,
    address text,
    user_agent text,
    ended_at bigint,
    end_reason text,
    ended_by text, -- user:<id>, command_line or service
    CHECK ((ended_at IS NULL) = (end_reason IS NULL) AND (ended_at IS NULL) = (ended_by IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX countersign_session_live_by_user ON countersign_session (user_id)
    WHERE ended_at IS NULL;

-- The greatest number is the newest key.
CREATE TABLE countersign_signing_key (
    number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    kid text NOT NULL UNIQUE,
    algorithm text NOT NULL,
    state text NOT NULL,
    sealed bytea NOT NULL,
    created_at bigint NOT NULL
);

CREATE UNIQUE INDEX countersign_signing_key_one_current ON countersign_signing_key (state)
    WHERE state = 'current';

-- What other nodes must hear of, for those that cannot listen. Numbers are given before the commit
-- and so do not tell what is new; the transaction does: all before the oldest one that is still
-- open have been seen by whoever looked.
CREATE TABLE countersign_change (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    transaction bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    origin bigint NOT NULL, -- the connection that wrote it
    said text NOT NULL,     -- what those who listen are told, in words
    at timestamp with time zone NOT NULL DEFAULT now()
);

CREATE INDEX countersign_change_transaction ON countersign_change (transaction);
