"""What the hub's client raises, as one sentence with a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from aquachat.errors import AquachatError, RemoteError

P = ParamSpec("P")
T = TypeVar("T")

REFUSALS: Final = (400, 401, 402, 403, 404, 413, 422)
"""Statuses after which sending the same again makes no difference, and nothing was written."""
_HINTS: Final = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token that is valid",
    402: "the hub asks for a paid plan for this",
    403: "use a token with write access to that repository: https://huggingface.co/settings/tokens",
    404: "check `--repo-id`, and that your token may see that repository",
    413: "the hub takes no commit that large",
}
_UNREACHABLE: Final = "check the network and HF_ENDPOINT, then run the same command again"


class HubError(RemoteError):
    """The hub answered with an error, or not at all."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        is_missing_repository: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        """Of the answer, None where none came."""
        self.retry_after_s = retry_after_s
        self.is_missing_repository = is_missing_repository

    @property
    def is_refusal(self) -> bool:
        """Whether the hub certainly did nothing, and will not."""
        return self.status in REFUSALS

    def __reduce__(self) -> tuple[object, ...]:
        return (RemoteError, (self.message,))


def hub_call(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call(...)`, with what the client raises as a `HubError`."""
    try:
        return call(*args, **kwargs)
    except AquachatError:
        raise
    except _client_errors() as error:
        cause = error.__cause__
        # A large file that could not be uploaded comes as a RuntimeError around what happened.
        is_wrapped = isinstance(error, RuntimeError) and isinstance(cause, _client_errors())
        raise _told(cause if is_wrapped and isinstance(cause, Exception) else error) from error


def _told(error: Exception) -> HubError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if isinstance(error, ValueError):  # the client itself would not send it
            return HubError(f"the hub would refuse this: {lines[0]}", status=400)
        return HubError(f"the hub could not be reached: {lines[0]}", hint=_UNREACHABLE)
    return HubError(
        f"the hub answered {status}{_said_by(error, response)}",
        hint=_HINTS.get(status, _UNREACHABLE),
        status=status,
        retry_after_s=_retry_after_s(response),
        # The hub says 401 of a repository that it hides from whoever is not logged in.
        is_missing_repository=status == 404 and type(error).__name__ == "RepositoryNotFoundError",
    )


def _said_by(error: Exception, response: Any) -> str:
    """What the hub itself says, from its header or the JSON it sent."""
    message = getattr(error, "server_message", None) or response.headers.get("X-Error-Message")
    lines = str(message or "").strip().splitlines()
    return f": {lines[0]}" if lines else ""


def _retry_after_s(response: Any) -> float | None:
    try:
        return max(float(response.headers.get("Retry-After", "")), 0.0)
    except ValueError:
        return None


def _client_errors() -> tuple[type[Exception], ...]:
    """What the installed `huggingface_hub` and its HTTP client raise; httpx's are no OSError."""
    from huggingface_hub import errors

    kinds = [errors.HfHubHTTPError, getattr(errors, "HTTPError", None)]
    known = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    return (OSError, ValueError, RuntimeError, *known)
