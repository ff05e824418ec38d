-- What the links of letters prove, and for whom. A row is no secret: the token is derived from it under a key
-- of the service's. Times are milliseconds since 1970.
CREATE TABLE countersign_mailed_token (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    purpose TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    email TEXT NOT NULL,
    binding BLOB NOT NULL CHECK (length(binding) = 32), -- a code over the password and address it dies with
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX countersign_mailed_token_by_user ON countersign_mailed_token (user_id, purpose);
CREATE INDEX countersign_mailed_token_expires ON countersign_mailed_token (expires_at);

-- Who has registered and has yet to prove the address; the name is reserved meanwhile.
CREATE TABLE countersign_registration (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    username TEXT NOT NULL,
    small BLOB NOT NULL CHECK (length(small) = 16), -- what the name looks like, as in countersign_name
    capital BLOB NOT NULL CHECK (length(capital) = 16),
    email TEXT NOT NULL,
    folded_email TEXT NOT NULL,
    password TEXT NOT NULL,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX countersign_registration_small ON countersign_registration (small);
CREATE INDEX countersign_registration_capital ON countersign_registration (capital);
CREATE INDEX countersign_registration_email ON countersign_registration (folded_email);
CREATE INDEX countersign_registration_expires ON countersign_registration (expires_at);

-- Which address a user has proven, to the letter. It counts for as long as the users table says the same,
-- and is one user's at a time.
CREATE TABLE countersign_email (
    user_id INTEGER NOT NULL PRIMARY KEY,
    address TEXT NOT NULL,
    folded TEXT NOT NULL UNIQUE,
    verified_at INTEGER NOT NULL
);
