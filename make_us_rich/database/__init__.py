"""Postgres: a pool of connections with time limits, the migrations, and one module for each table outside the accounts.

Imports `core` and `documents` alone. A process builds one `Database` from its settings and passes it down; a command
or task that needs it once opens it in a `with` block. Functions that read or write a table take it as first argument.
"""
