-- A user's sessions, also those that have ended: why was I signed out? The index of those that are alive
-- stays: whoever signs in all day leaves many behind.
CREATE INDEX countersign_session_by_user ON countersign_session (user_id);

-- What ended lately is read at start, and what ended long ago is removed.
CREATE INDEX countersign_session_ended ON countersign_session (ended_at)
    WHERE ended_at IS NOT NULL;

-- Since when a key is in its state: what its schedule counts from.
ALTER TABLE countersign_signing_key ADD COLUMN state_since bigint NOT NULL DEFAULT 0;
UPDATE countersign_signing_key SET state_since = created_at;

-- Until when a process has the turn of doing upkeep.
ALTER TABLE countersign_meta ADD COLUMN upkeep_until bigint NOT NULL DEFAULT 0;
