-- What a release's manifest.json is, which itself says what every other file is: verifying finds any change to either.
-- Null for releases that were made before.
ALTER TABLE release ADD COLUMN manifest_sha256 VARCHAR;
