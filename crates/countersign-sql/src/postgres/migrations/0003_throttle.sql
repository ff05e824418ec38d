-- What has been attempted, by whom as an HMAC that tells nobody. Times are milliseconds since 1970.
CREATE TABLE countersign_throttle (
    key bytea NOT NULL PRIMARY KEY,
    drained_at bigint NOT NULL,
    last_at bigint NOT NULL
);

-- What is forgotten is removed.
CREATE INDEX countersign_throttle_drained ON countersign_throttle (drained_at);
