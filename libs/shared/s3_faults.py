"""What S3 and the way to it answer, as errors of the pipeline: missing, refused, or away for now."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, ClassVar

import aiohttp
import structlog
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.parsers import ResponseParserError

from shared.errors import PermanentError
from shared.object_store import ObjectMissing, StoreRefused, StoreUnavailable

log = structlog.get_logger()

# Somebody has to correct something: the four attempts of a job then span minutes instead of seconds.
REFUSED_RETRY_S = 120.0
_NO_UPLOAD = "NoSuchUpload"
_MISSING_ELSE = ("NoSuchBucket", _NO_UPLOAD)
_REFUSED_STATUS = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_DEFAULT_ADVICE = "check the credentials, the bucket's policy and the bucket's name"
# What an operator can do, by S3's error code. Any other 301, 401 or 403 gets the default advice.
_ADVICE = {
    "AccessDenied": "the credentials need s3:GetObject, s3:PutObject, s3:DeleteObject, "
    "s3:AbortMultipartUpload and, so that a missing object is told from a forbidden one, s3:ListBucket",
    "AuthorizationHeaderMalformed": "S3_REGION is not the bucket's region",
    "ExpiredToken": "the temporary credentials have expired",
    "IllegalLocationConstraintException": "S3_REGION is not the bucket's region",
    "InvalidAccessKeyId": "S3_ACCESS_KEY_ID is not known there",
    "InvalidBucketName": "S3_BUCKET_NAME or S3_ORGANIZATION_BUCKETS holds no bucket's name",
    "InvalidToken": "the temporary credentials are not valid",
    "NoSuchBucket": "create the bucket, or correct S3_BUCKET_NAME or S3_ORGANIZATION_BUCKETS",
    "PermanentRedirect": "S3_REGION or S3_ENDPOINT_URL is not the bucket's",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": "S3_SECRET_ACCESS_KEY is not the key's secret, or a proxy changes the requests",
}
_NO_CREDENTIALS = "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give the machine or container a role"


class RangeBeyondEnd(PermanentError):
    """The object has no byte at the start of the range."""

    code: ClassVar[str] = "range_beyond_end"


class KeyTaken(StoreUnavailable):
    """There is an object under the key already, and the call was to store only where there is none."""


class Unsupported(StoreUnavailable):
    """The server does not know what the call asked for."""


class UploadMissing(StoreUnavailable):
    """There is no upload in parts by this id, or no more; the whole of it can be begun anew."""


_KINDS: Mapping[str, type[StoreUnavailable]] = {"NotImplemented": Unsupported, _NO_UPLOAD: UploadMissing}


@contextmanager
def store_faults(subject: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into one of our errors, which names the subject (a key or a prefix).

    What the store said and where it stands is for the log alone: the error's words may reach a customer.
    """
    try:
        yield
    except ClientError as error:
        raise _answered(error.response, subject) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise _refused("no credentials", subject, said=str(error), advice=_NO_CREDENTIALS) from error
    except TimeoutError as error:
        raise StoreUnavailable(f"object {subject}: the store took too long") from error
    except (BotoCoreError, ResponseParserError, aiohttp.ClientError) as error:
        log.warning("object_store_call_failed", subject=subject, reason=f"{type(error).__name__}: {error}")
        raise StoreUnavailable(f"object {subject}: {type(error).__name__}") from error
    except OSError as error:
        raise StoreUnavailable(f"object {subject}: {error.strerror or type(error).__name__}") from error


def fault_of_batch(failures: Sequence[Mapping[str, Any]], subject: str) -> StoreUnavailable:
    """The error for objects that a batch could not delete, after the first of them."""
    code, said = str(failures[0].get("Code", "")), str(failures[0].get("Message", ""))
    return _failure(code, subject, said=f"{len(failures)} objects were not deleted: {said}")


def _answered(response: Mapping[str, Any], subject: str) -> ObjectMissing | RangeBeyondEnd | StoreUnavailable:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, said = (str(response.get("Error", {}).get(part, "")) for part in ("Code", "Message"))
    if status == HTTPStatus.NOT_FOUND and code not in _MISSING_ELSE:
        return ObjectMissing(f"no object {subject}")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return RangeBeyondEnd(f"object {subject} ends before the range")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return KeyTaken(f"object {subject} is there already")
    return _failure(code or str(status), subject, said=said, status=status)


def _failure(code: str, subject: str, *, said: str, status: int = 0) -> StoreUnavailable:
    advice = _ADVICE.get(code, _DEFAULT_ADVICE if status in _REFUSED_STATUS else None)
    if advice is not None:
        return _refused(code, subject, said=said, advice=advice)
    log.warning("object_store_call_failed", subject=subject, status=status, code=code, reason=said)
    kind = Unsupported if status == HTTPStatus.NOT_IMPLEMENTED else _KINDS.get(code, StoreUnavailable)
    return kind(f"object {subject}: the store answered {code}")


def _refused(code: str, subject: str, *, said: str, advice: str) -> StoreRefused:
    log.error("object_store_refused", subject=subject, code=code, reason=said, advice=advice)
    return StoreRefused(f"object {subject}: the store refused ({code})", retry_after_s=REFUSED_RETRY_S)
