"""One bucket of S3: bytes and small JSON objects by key. Any server that speaks S3 will do."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from make_us_rich.core.errors import StoreError
from make_us_rich.core.settings import Settings

_CHANGED_MEANWHILE = (409, 412)


class Stored(NamedTuple):
    content: bytes
    etag: str


class _XmlByOneName(urllib3.PoolManager):
    """Calls XML `application/xml`: minio reads no error that comes as `text/xml`, as rclone and others send it."""

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **rest: Any
    ) -> urllib3.BaseHTTPResponse:
        answer = super().urlopen(method, url, redirect, **rest)
        if answer.headers.get("Content-Type", "").startswith("text/xml"):
            answer.headers["Content-Type"] = "application/xml"
        return answer


class Bucket:
    """Every method raises StoreError when S3 refuses or cannot be reached."""

    def __init__(
        self, endpoint_url: str, access_key: str, secret_key: str, bucket: str, region: str = "us-east-1"
    ) -> None:
        address = urlsplit(endpoint_url)
        self._bucket = bucket
        self._endpoint_url = endpoint_url
        # Minio's own defaults wait five minutes for an answer, six times over.
        self._http = _XmlByOneName(
            timeout=urllib3.Timeout(connect=5, read=30),
            retries=urllib3.Retry(total=3, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504]),
        )
        self._s3 = Minio(
            endpoint=address.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=address.scheme == "https",
            region=region,
            http_client=self._http,
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            settings.s3_endpoint_url,
            settings.s3_access_key.get_secret_value(),
            settings.s3_secret_key.get_secret_value(),
            settings.candles_bucket,
            settings.s3_region,
        )

    def ensure_bucket(self) -> None:
        with self._told_clearly():
            if not self._s3.bucket_exists(bucket_name=self._bucket):
                self._s3.make_bucket(bucket_name=self._bucket)

    def get(self, key: str) -> Stored | None:
        with self._told_clearly():
            try:
                answer = self._s3.get_object(bucket_name=self._bucket, object_name=key)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                raise
            try:
                return Stored(bytes(answer.read()), answer.headers["ETag"])
            finally:
                answer.close()
                answer.release_conn()

    def put(self, key: str, content: bytes) -> None:
        with self._told_clearly():
            self._s3.put_object(
                bucket_name=self._bucket, object_name=key, data=io.BytesIO(content), length=len(content)
            )

    def replace(self, key: str, content: bytes, old: Stored | None) -> bool:
        """Put only if the object is still `old` (None: still absent); False when another writer was first."""
        condition = {"If-None-Match": "*"} if old is None else {"If-Match": old.etag}
        with self._told_clearly():
            # Minio's put_object sends no conditions; an address signed by it takes them.
            url = self._s3.presigned_put_object(bucket_name=self._bucket, object_name=key)
            answer = self._http.request("PUT", url, body=content, headers=condition)
        if answer.status in _CHANGED_MEANWHILE:
            return False
        if answer.status >= 300:
            raise StoreError(f"S3 at {self._endpoint_url} refused to store {key}: {answer.status}")
        return True

    def put_json(self, key: str, value: Any) -> None:
        self.put(key, json.dumps(value).encode())

    def get_json(self, key: str) -> Any:
        found = self.get(key)
        if found is None:
            raise StoreError(f"{self._bucket}/{key} is not there")
        return json.loads(found.content)

    def list_keys(self, prefix: str) -> list[str]:
        with self._told_clearly():
            objects = self._s3.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
            return sorted(str(item.object_name) for item in objects)

    def list_modified(self, prefix: str) -> dict[str, datetime]:
        """Keys below `prefix`, and when each was written."""
        with self._told_clearly():
            objects = self._s3.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
            return {str(item.object_name): item.last_modified for item in objects if item.last_modified}

    def remove(self, key: str) -> None:
        """Harmless when it is gone already."""
        with self._told_clearly():
            self._s3.remove_object(bucket_name=self._bucket, object_name=key)

    @contextmanager
    def _told_clearly(self) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise StoreError(f"S3 at {self._endpoint_url} refused: {error.code} {error.message}") from error
        except ParseError as error:
            raise StoreError(f"what answers at {self._endpoint_url} is no S3: {error}") from error
        except (MinioException, HTTPError, OSError) as error:
            raise StoreError(f"S3 at {self._endpoint_url} cannot be reached: {type(error).__name__}") from error
