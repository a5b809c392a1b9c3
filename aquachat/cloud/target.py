"""Where a machine is and who logs in; and the keys by which machines are known.

The keys of one job are in a `known_hosts` of its own (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"),
since providers give the same address to other machines later. Where a key was given to the machine
before it started, it is pinned from the first connection; else the first key seen is pinned.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aquachat.cloud.ssh_errors import HostKeyError
from aquachat.errors import ConfigError
from aquachat.files import write_text

KNOWN_HOSTS: Final = "known_hosts"
SSH_PORT: Final = 22
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,252}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_KEY_TYPE = re.compile(r"[a-z0-9][a-z0-9@.-]{2,63}")


@dataclass(frozen=True, slots=True)
class Target:
    """A machine one can log in to.

    Example:
        Target("203.0.113.7", "ubuntu", key_file=Path("~/.ssh/id_ed25519"))
    """

    host: str
    user: str
    port: int = SSH_PORT
    key_file: Path | None = None
    """The private key; None tries the agent and the usual files of `~/.ssh`."""
    host_key: str | None = None
    """`ssh-ed25519 AAAA...`, where it is known before the first connection."""

    def __post_init__(self) -> None:
        if _HOST.fullmatch(self.host) is None:
            raise ConfigError(
                f"`{self.host}` is no address of a machine", hint="give a name or an IP address"
            )
        if _USER.fullmatch(self.user) is None:
            raise ConfigError(f"`{self.user}` is no user name", hint="give it as `user@host`")
        if not 0 < self.port < 65536:
            raise ConfigError(f"`{self.port}` is no port", hint="give one from 1 to 65535")

    def __str__(self) -> str:
        port = "" if self.port == SSH_PORT else f" port {self.port}"
        return f"{self.user}@{self.host}{port}"

    @property
    def known_name(self) -> str:
        """The name in a `known_hosts` file."""
        return self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"

    def command(self, known_hosts: Path, *, remote: Sequence[str] = ()) -> list[str]:
        """The `ssh` of a person, which trusts exactly the pinned key.

        Args:
            known_hosts: the file of the job.
            remote: what to run in a terminal there, as an argument list; empty for a shell.
        """
        key = [] if self.key_file is None else ["-i", str(self.key_file)]
        tail = ["-t", f"{self.user}@{self.host}", shlex.join(remote)] if remote else []
        options = ["-o", f'UserKnownHostsFile="{known_hosts}"', "-o", "StrictHostKeyChecking=yes"]
        where = tail or [f"{self.user}@{self.host}"]
        return ["ssh", *options, "-p", str(self.port), *key, *where]


def parse_target(text: str, *, port: int = SSH_PORT, key_file: Path | None = None) -> Target:
    """The target that `user@host` names.

    Raises:
        ConfigError: it has no user, or something that could be taken for an option of ssh.
    """
    user, at, host = text.strip().rpartition("@")
    if not at:
        raise ConfigError(f"`{text}` names no user", hint="give it as `user@host`")
    return Target(host.removeprefix("[").removesuffix("]"), user, port, key_file)


class PinnedKeys:
    """The `known_hosts` of one job."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def of(self, name: str) -> tuple[str, str] | None:
        """The type and the base64 text of the key that is pinned for `name`."""
        for line in self._lines():
            names, _, key = line.partition(" ")
            if name in names.split(","):
                kind, _, blob = key.partition(" ")
                return kind, blob.split(" ")[0]
        return None

    def pin(self, name: str, key: str) -> None:
        """Write a key down, unless it is already.

        Args:
            name: see `Target.known_name`.
            key: `TYPE BASE64`, with or without a comment.

        Raises:
            ConfigError: this is no public key.
            HostKeyError: another key is pinned for that name.
        """
        kind, blob = _public_key(key)
        pinned = self.of(name)
        if pinned is None:
            lines = [*self._lines(), f"{name} {kind} {blob}"]
            write_text(self.file, "\n".join(lines) + "\n")
            self.file.chmod(0o600)
        elif pinned != (kind, blob):
            raise self.changed(name, blob)

    def changed(self, name: str, blob: str) -> HostKeyError:
        """The error for a machine that shows another key than the pinned one."""
        pinned = self.of(name)
        known = fingerprint(pinned[1]) if pinned else "none"
        return HostKeyError(
            f"the key of `{name}` is {fingerprint(blob)}, but {known} is pinned for this job, "
            "so somebody else may be answering; nothing was sent",
            hint=f"if the machine was made anew on purpose, delete its line in `{self.file}`",
        )

    def _lines(self) -> list[str]:
        try:
            text = self.file.read_text("utf-8")
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if line and not line.startswith("#")]


class PinOnFirstSight:
    """paramiko's policy for a machine whose key is not pinned yet: pin it before logging in."""

    def __init__(self, keys: PinnedKeys) -> None:
        self._keys = keys

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        """Called between the key exchange and the log-in."""
        self._keys.pin(hostname, f"{key.get_name()} {key.get_base64()}")


def fingerprint(blob: str) -> str:
    """What `ssh-keygen -l` shows of a key: `SHA256:` and the hash in base64."""
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _public_key(text: str) -> tuple[str, str]:
    parts = text.split()
    wrong = ConfigError(
        "the host key is no public key", hint="give it as in a `.pub` file: `ssh-ed25519 AAAA...`"
    )
    if len(parts) < 2 or _KEY_TYPE.fullmatch(parts[0]) is None:
        raise wrong
    try:
        raw = base64.b64decode(parts[1], validate=True)
    except binascii.Error:
        raise wrong from None
    if parts[0].encode() not in raw[:80]:
        raise wrong
    return parts[0], parts[1]
