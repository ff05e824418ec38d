-- What the links of letters prove, and for whom. A row is no secret: the token is derived from it under a key
-- of the service's. Times are milliseconds since 1970.
CREATE TABLE countersign_mailed_token (
    id uuid NOT NULL PRIMARY KEY,
    purpose text NOT NULL,
    user_id bigint NOT NULL,
    email text NOT NULL,
    binding bytea NOT NULL, -- a code over the password and address it dies with
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);

CREATE INDEX countersign_mailed_token_by_user ON countersign_mailed_token (user_id, purpose);
CREATE INDEX countersign_mailed_token_expires ON countersign_mailed_token (expires_at);

-- Who has registered and has yet to prove the address; the name is reserved meanwhile.
CREATE TABLE countersign_registration (
    id uuid NOT NULL PRIMARY KEY,
    username text NOT NULL,
    small bytea NOT NULL, -- what the name looks like, as in countersign_name
    capital bytea NOT NULL,
    email text NOT NULL,
    folded_email text NOT NULL,
    password text NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);

CREATE INDEX countersign_registration_small ON countersign_registration (small);
CREATE INDEX countersign_registration_capital ON countersign_registration (capital);
CREATE INDEX countersign_registration_email ON countersign_registration (folded_email);
CREATE INDEX countersign_registration_expires ON countersign_registration (expires_at);

-- Which address a user has proven, to the letter. It counts for as long as the users table says the same,
-- and is one user's at a time.
CREATE TABLE countersign_email (
    user_id bigint NOT NULL PRIMARY KEY,
    address text NOT NULL,
    folded text NOT NULL UNIQUE,
    verified_at bigint NOT NULL
);
