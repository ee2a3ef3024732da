"""Save and restore everything an installation knows: three Postgres databases and two S3 buckets.

    python -m infra.backup save FOLDER
    python -m infra.backup restore FOLDER      into empty databases and buckets

databases.py   pg_dump and pg_restore, with row counts and checksums of every table
buckets.py     objects under the SHA-256 of their content
__main__.py    both together; manifest.json is written last, so that a folder without one is no backup

Databases go first: what they name in S3 was stored before it was named, so a bucket read later holds all of it.
"""
