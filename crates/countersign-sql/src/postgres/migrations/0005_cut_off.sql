-- When all sessions of a user were ended last, in milliseconds since 1970: refresh tokens that a Django site
-- issued to the user up to then are not exchanged. A row stays when no such token can be alive any more: it
-- is one small row a user.
CREATE TABLE countersign_cut_off (
    user_id bigint NOT NULL PRIMARY KEY,
    at bigint NOT NULL
);
