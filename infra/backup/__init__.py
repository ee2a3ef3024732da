"""Save and restore everything an installation knows: three Postgres databases and two S3 buckets.

    python -m infra.backup save FOLDER
    python -m infra.backup restore FOLDER      into empty databases and buckets

databases.py   pg_dump and pg_restore, and a row count and checksum of each table
buckets.py     objects, as files named by the SHA-256 of their content
__main__.py    the command; it writes manifest.json last, so a folder without one is not a complete backup

Databases are saved first: an object is stored in S3 before a database names it, so a bucket that is read later has
every object that the databases name.
"""
