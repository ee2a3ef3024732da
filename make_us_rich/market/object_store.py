"""One bucket of an S3 store: objects by key. Works with any server that speaks S3."""

from __future__ import annotations

import io
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

_CONDITION_FAILED = (409, 412)


class StoredObject(NamedTuple):
    content: bytes
    etag: str


class _XmlPoolManager(urllib3.PoolManager):
    """Rewrites the content type `text/xml` to `application/xml`.

    minio parses an error body only as `application/xml`; rclone and other servers send `text/xml`.
    """

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **rest: Any
    ) -> urllib3.BaseHTTPResponse:
        response = super().urlopen(method, url, redirect, **rest)
        if response.headers.get("Content-Type", "").startswith("text/xml"):
            response.headers["Content-Type"] = "application/xml"
        return response


class ObjectStore:
    """A client of one bucket. Every method raises StoreError when S3 refuses or cannot be reached."""

    def __init__(
        self, endpoint_url: str, access_key: str, secret_key: str, bucket: str, region: str = "us-east-1"
    ) -> None:
        address = urlsplit(endpoint_url)
        self._bucket = bucket
        self._endpoint_url = endpoint_url
        # Minio's defaults wait five minutes for a response, six times.
        self._http = _XmlPoolManager(
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
        """Connect to the bucket of candles and job results."""
        return cls(
            settings.s3_endpoint_url,
            settings.needed("s3_access_key"),
            settings.needed("s3_secret_key"),
            settings.candles_bucket,
            settings.s3_region,
        )

    def ensure_bucket(self) -> None:
        """Create the bucket unless it exists."""
        with self._store_errors():
            if not self._s3.bucket_exists(bucket_name=self._bucket):
                self._s3.make_bucket(bucket_name=self._bucket)

    def get(self, key: str) -> StoredObject | None:
        """Read an object; None if there is no such key."""
        with self._store_errors():
            try:
                response = self._s3.get_object(bucket_name=self._bucket, object_name=key)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                raise
            try:
                return StoredObject(bytes(response.read()), response.headers["ETag"])
            finally:
                response.close()
                response.release_conn()

    def put(self, key: str, content: bytes) -> None:
        """Write an object, replacing any that has this key."""
        with self._store_errors():
            self._s3.put_object(
                bucket_name=self._bucket, object_name=key, data=io.BytesIO(content), length=len(content)
            )

    def replace(self, key: str, content: bytes, old: StoredObject | None) -> bool:
        """Write only if the object is still `old` (None: still absent); return False if it was changed meanwhile."""
        condition = {"If-None-Match": "*"} if old is None else {"If-Match": old.etag}
        with self._store_errors():
            # Minio's put_object cannot send conditions, a presigned URL accepts them.
            url = self._s3.presigned_put_object(bucket_name=self._bucket, object_name=key)
            response = self._http.request("PUT", url, body=content, headers=condition)
        if response.status in _CONDITION_FAILED:
            return False
        if response.status >= 300:
            raise StoreError(f"S3 at {self._endpoint_url} refused to store {key}: {response.status}")
        return True

    def list_keys(self, prefix: str) -> list[str]:
        """List the keys below `prefix`, sorted."""
        return sorted(self.list_modified(prefix))

    def list_modified(self, prefix: str) -> dict[str, datetime]:
        """Map the keys below `prefix` to when each was last written."""
        with self._store_errors():
            objects = self._s3.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
            return {str(item.object_name): item.last_modified for item in objects if item.last_modified}

    def remove(self, key: str) -> None:
        """Delete an object; does nothing if there is no such key."""
        with self._store_errors():
            self._s3.remove_object(bucket_name=self._bucket, object_name=key)

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Raise StoreError in place of the errors of minio and urllib3."""
        try:
            yield
        except S3Error as error:
            raise StoreError(f"S3 at {self._endpoint_url} refused: {error.code} {error.message}") from error
        except ParseError as error:
            raise StoreError(f"the server at {self._endpoint_url} does not speak S3: {error}") from error
        except ValueError as error:
            if "XML element" not in str(error):
                raise
            raise StoreError(f"the server at {self._endpoint_url} does not speak S3: {error}") from error
        except (MinioException, HTTPError, OSError) as error:
            raise StoreError(f"S3 at {self._endpoint_url} cannot be reached: {type(error).__name__}") from error
