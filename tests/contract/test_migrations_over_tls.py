"""Migrations in a Postgres that wants TLS, as hosted ones do, and in one that has none."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from make_us_rich.database.migrations import migrate
from tests.support.accounts import transaction
from tests.support.servers import empty_database
from tests.support.tcp_proxy import tcp_proxy


@pytest.fixture
def postgres() -> Iterator[str]:
    with empty_database() as url:
        yield url


def test_a_server_that_wants_tls_gets_it(postgres: str, tmp_path: Path) -> None:
    with tcp_proxy(postgres, tls=_tls(tmp_path)) as (_, url):
        migrate(url)
        with transaction(url) as cursor:
            assert cursor.connection.info.ssl_in_use
            cursor.execute("SELECT count(*) FROM schema_migrations")
            assert cursor.fetchone()[0] > 5


def test_what_the_url_asks_for_is_kept(postgres: str) -> None:
    migrate(f"{postgres}?sslmode=disable&application_name=tests")
    migrate(f"{postgres}?sslmode=prefer")


def _tls(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    ).sign(key, hashes.SHA256())
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
