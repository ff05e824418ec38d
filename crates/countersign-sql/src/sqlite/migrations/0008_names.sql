-- What the names of users look like, in small letters and in capitals, as digests: no second name is made
-- that looks the same. Of users whom other programs have made or renamed it is noted when a user is made, and
-- by upkeep; the users table is right where the two differ.
CREATE TABLE countersign_name (
    user_id INTEGER NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    small BLOB NOT NULL CHECK (length(small) = 16),
    capital BLOB NOT NULL CHECK (length(capital) = 16)
);

-- Not unique: Django lets such users be.
CREATE INDEX countersign_name_small ON countersign_name (small);
CREATE INDEX countersign_name_capital ON countersign_name (capital);

-- All users up to this number have been looked at once.
ALTER TABLE countersign_meta ADD COLUMN names_noted_to INTEGER NOT NULL DEFAULT 0;
