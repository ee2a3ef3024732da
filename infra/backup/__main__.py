"""The commands `save` and `restore`. URLs and keys come from the environment variables that the components read."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from infra.backup import buckets, databases
from infra.backup.databases import BackupError, TableSum
from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.market.object_store import ObjectStore

DATABASES = {
    "make_us_rich": "MUR_DATABASE_URL",
    "mlflow": "MLFLOW_BACKEND_STORE_URI",
    "airflow": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
}
MANIFEST = "manifest.json"


def save(folder: Path, urls: dict[str, str], settings: Settings) -> None:
    """Save everything into a new folder. Raises BackupError when the folder exists: no backup is ever overwritten."""
    try:
        folder.mkdir(parents=True, mode=0o700)  # it holds password hashes
    except FileExistsError:
        raise BackupError(f"{folder} exists: name a new folder for each backup") from None
    tables = {name: databases.dump(url, folder / f"{name}.dump") for name, url in urls.items()}
    objects = {name: buckets.dump(_bucket(settings, name), folder / "objects") for name in _buckets(settings)}
    manifest = {
        "saved_at": datetime.now(UTC).isoformat(),
        "databases": {name: {table: asdict(of) for table, of in all_.items()} for name, all_ in tables.items()},
        "buckets": objects,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def restore(folder: Path, urls: dict[str, str], settings: Settings) -> None:
    """Restore everything and check it against the manifest. Raises BackupError when it differs."""
    if not (folder / MANIFEST).exists():
        raise BackupError(f"{folder} has no {MANIFEST}: it is not a complete backup")
    manifest = json.loads((folder / MANIFEST).read_text())
    missing = sorted(manifest["databases"].keys() - urls.keys())
    if missing:
        raise BackupError(f"{', '.join(DATABASES[name] for name in missing)} must be set, to say where to restore to")
    for name, tables in manifest["databases"].items():
        expected = {table: TableSum(**of) for table, of in tables.items()}
        databases.restore(urls[name], folder / f"{name}.dump", expected)
    # by their order: the buckets may have other names where it is restored
    for name, objects in zip(_buckets(settings), manifest["buckets"].values(), strict=True):
        buckets.restore(_bucket(settings, name), folder / "objects", objects)


def summary(folder: Path) -> str:
    manifest = json.loads((folder / MANIFEST).read_text())
    lines = [f"saved at {manifest['saved_at']}"]
    for name, tables in manifest["databases"].items():
        lines.append(f"{name}: {len(tables)} tables, {sum(of['rows'] for of in tables.values())} rows")
    lines += [f"{name}: {len(objects)} objects" for name, objects in manifest["buckets"].items()]
    return "\n".join(lines)


def _buckets(settings: Settings) -> tuple[str, ...]:
    return (settings.candles_bucket, settings.mlflow_bucket)


def _bucket(settings: Settings, name: str) -> ObjectStore:
    keys = settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
    return ObjectStore(settings.s3_endpoint_url, *keys, name, settings.s3_region)


def main() -> None:
    parser = argparse.ArgumentParser(description="save or restore all databases and buckets")
    parser.add_argument("action", choices=["save", "restore"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    urls = {name: os.environ[variable] for name, variable in DATABASES.items() if variable in os.environ}
    began = time.monotonic()
    try:
        (save if arguments.action == "save" else restore)(arguments.folder, urls, get_settings())
    except MakeUsRichError as error:
        sys.exit(f"error: {error}")
    print(summary(arguments.folder))
    print(f"{arguments.action}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
