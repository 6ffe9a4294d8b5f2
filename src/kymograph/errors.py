"""Every error Kymograph raises, in one tree.

    KymographError
    ├── InvalidInput            what was given cannot be used             HTTP 400
    │   ├── SchemaError         a column, its type or its values do not fit
    │   ├── TimeError           not a time, or out of range
    │   ├── QueryError          SQL (later PromQL) that cannot be planned or run
    │   ├── DuplicateRows       the table's policy is "reject"            HTTP 409
    │   └── Overlap             a stream covers that time already
    ├── NotFound                no such table, series, job or token       HTTP 404
    ├── AlreadyExists           the name is taken                         HTTP 409
    ├── LimitExceeded           rows, time or memory of a query           HTTP 422
    ├── AccessError             missing or insufficient token             HTTP 401/403
    ├── StorageError            the folder or the server below            HTTP 503
    │   ├── StoreLocked         another process writes here
    │   ├── ReadOnly            opened read-only
    │   ├── StoreClosed         used after close()
    │   ├── NotOpen             the server's store cannot be opened yet; who opens it has said why
    │   ├── DiskFull            no room; nothing acknowledged was lost
    │   └── Corrupt             a checksum or structure does not hold
    └── MissingDependency       an extra is not installed; names it       HTTP 501

A message carries the numbers and places; `hint` tells the user what to do next.
"""

from __future__ import annotations


class KymographError(Exception):
    """Root of all errors.

    Attributes:
        code: stable machine-readable name, snake case; what HTTP bodies carry.
        status: the HTTP status the server answers with.
        hint: what to do next, or "".
    """

    code = "error"
    status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(KymographError, ValueError):
    code, status = "invalid_input", 400


class SchemaError(InvalidInput):
    code = "schema_error"


class TimeError(InvalidInput):
    code = "time_error"


class QueryError(InvalidInput):
    code = "query_error"


class DuplicateRows(InvalidInput):
    code, status = "duplicate_rows", 409


class Overlap(InvalidInput):
    code = "overlap"


class NotFound(KymographError, LookupError):
    code, status = "not_found", 404


class AlreadyExists(KymographError):
    code, status = "already_exists", 409


class LimitExceeded(KymographError):
    code, status = "limit_exceeded", 422


class AccessError(KymographError):
    code, status = "access_denied", 403


class StorageError(KymographError, OSError):
    code, status = "storage_error", 503


class StoreLocked(StorageError):
    code = "store_locked"


class ReadOnly(StorageError):
    code, status = "read_only", 403


class StoreClosed(StorageError):
    code = "store_closed"


class NotOpen(StorageError):
    """Its code is that of the reason."""


class DiskFull(StorageError):
    code, status = "disk_full", 507


class Corrupt(StorageError):
    code = "corrupt"


class MissingDependency(KymographError, ImportError):
    code, status = "missing_dependency", 501
