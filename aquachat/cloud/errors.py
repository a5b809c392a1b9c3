"""What can go wrong with a provider, told apart by what a caller must do next.

The question that matters is whether a machine may exist that nobody knows of:

    RefusedError          the provider answered and did nothing
    NoCapacityError       refused, and worth another region, type or try
    RateLimitedError      refused, and worth the same request later
    NotSentError          no byte of the request left this machine
    AmbiguousWriteError   the request may have been carried out: look, never repeat blindly
"""

from __future__ import annotations

from aquachat.errors import AquachatError, RemoteError, TryLaterError


class CloudError(RemoteError):
    """A provider refused, could not be reached, or answered something that cannot be read.

    A listing that fails raises this: "could not ask" never reads as "none running".
    """

    status: int | None = None
    """HTTP status, where there was an answer."""
    code: str | None = None
    """The provider's word for the error, for example `global/invalid-api-key`."""
    retry_after_s: float | None = None


class NotSentError(CloudError):
    """No connection could be made, so nothing was asked."""


class UnreadableError(CloudError):
    """A read had no usable answer, after all retries."""


class RefusedError(CloudError):
    """The provider said no; nothing was created or changed."""


class AuthError(RefusedError):
    """The key is missing, wrong or expired, or the account is not allowed to do this."""


class NotFoundError(RefusedError):
    """The provider does not know what was named."""


class RateLimitedError(RefusedError):
    """Too many requests (HTTP 429); nothing was executed."""


class AmbiguousWriteError(CloudError):
    """A write had no clear answer: it may have been carried out."""


class NoCapacityError(TryLaterError):
    """Nothing that was asked for is free now; nothing was created."""

    status: int | None = None
    code: str | None = None


class StoppedError(AquachatError, RuntimeError):
    """Another command stopped the job."""


class BootError(AquachatError, RuntimeError):
    """A machine was made but did not become usable; it was ended."""


class LeftRunningError(AquachatError, RuntimeError):
    """A machine may still be running and billing, and a person must look."""

    instance_id: str | None = None


class LedgerError(AquachatError, RuntimeError):
    """A machine could not be written down, and was ended for that reason."""
