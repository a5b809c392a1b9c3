"""A host key made here and given to a machine at its birth, so that the first log-in is checked.

Where a provider carries cloud-init to the machine, `ssh_keys` of cloud-init (module cc_ssh)
replaces the keys that the image would make. The private half is the machine's, not a person's; it
is worth nothing once the machine is gone.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HostKey:
    """An ed25519 key pair of a machine."""

    public: str
    """`ssh-ed25519 AAAA...`"""
    private: str = field(repr=False)
    """In OpenSSH's own form."""

    def user_data(self) -> str:
        """The cloud-init document that gives the machine this key, and nothing else."""
        private = textwrap.indent(self.private, "    ")
        return (
            "#cloud-config\nssh_deletekeys: true\nssh_keys:\n"
            f"  ed25519_private: |\n{private}  ed25519_public: {self.public}\n"
        )


def make_host_key() -> HostKey:
    """A new key pair."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return HostKey(public.decode(), private.decode())
