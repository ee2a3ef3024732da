"""The stack's secrets: made on the first start, kept in a file that only its user can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path


def _text() -> str:
    return secrets.token_urlsafe(24)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _password() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True)
class StackSecrets:
    postgres_password: str = field(default_factory=_text)
    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: str = field(default_factory=_text)
    s3_signing_key: str = field(default_factory=_text)
    mlflow_password: str = field(default_factory=_text)
    secret_key: str = field(default_factory=_text)
    service_token: str = field(default_factory=lambda: f"mur_{_text()}")
    dashboard_token: str = field(default_factory=lambda: f"mur_{_text()}")
    ray_token: str = field(default_factory=_text)
    airflow_fernet_key: str = field(default_factory=_fernet_key)
    airflow_jwt_secret: str = field(default_factory=_text)
    airflow_api_secret: str = field(default_factory=_text)
    admin_password: str = field(default_factory=_password)
    demo_password: str = field(default_factory=_password)


def load_or_create(path: Path) -> StackSecrets:
    """A file of an older version gets the secrets that it lacks."""
    saved = json.loads(path.read_text()) if path.exists() else {}
    made = StackSecrets(**saved)
    if asdict(made) != saved:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(made), file, indent=1)
        beside.replace(path)
    return made
