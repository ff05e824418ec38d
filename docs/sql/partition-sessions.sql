-- Makes sixteen tables of countersign_session, by the hash of the session's id. For databases whose
-- session table has grown past what autovacuum and backups go through in good time; see
-- docs/scaling.md. Stop every node first: it is one transaction, and takes as long as copying the table.
BEGIN;
LOCK TABLE countersign_session IN ACCESS EXCLUSIVE MODE;
ALTER TABLE countersign_session RENAME TO countersign_session_whole;
CREATE TABLE countersign_session (
    LIKE countersign_session_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS
) PARTITION BY HASH (id);
DO $$
BEGIN
    FOR part IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE countersign_session_%s PARTITION OF countersign_session
                 FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 70)',
            part, part);
    END LOOP;
END $$;
INSERT INTO countersign_session SELECT * FROM countersign_session_whole;
DROP TABLE countersign_session_whole;
-- After the old ones are gone, for they have the same names.
ALTER TABLE countersign_session ADD CONSTRAINT countersign_session_pkey PRIMARY KEY (id);
CREATE INDEX countersign_session_live_by_user ON countersign_session (user_id)
    WHERE ended_at IS NULL;
CREATE INDEX countersign_session_by_user ON countersign_session (user_id);
CREATE INDEX countersign_session_ended ON countersign_session (ended_at)
    WHERE ended_at IS NOT NULL;
COMMIT;
ANALYZE countersign_session;
