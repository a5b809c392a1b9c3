"""A real OpenSSH server on loopback, with throw-away keys and a home of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.target import Target

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
NEEDED = ("ssh-keygen",)
PATH = "/usr/local/bin:/usr/bin:/bin"
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
ForceCommand {folder}/session
"""
SESSION = """#!/bin/sh
cd {home} || exit 1
{limits}
exec env -i HOME={home} USER={user} SHELL=/bin/sh PATH={path} {variables} \
  sh -c "$SSH_ORIGINAL_COMMAND"
"""


class Sshd:
    """One server; every session starts in an empty environment, in an empty home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.user = getpass.getuser()
        self.port = free_port()
        self.key_file = folder / "user_key"
        self._process: subprocess.Popen[bytes] | None = None
        make_key(self.key_file)
        make_key(folder / "host_key")
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        (folder / "sshd_config").write_text(CONFIG.format(port=self.port, folder=folder))
        self.set_session()

    @property
    def host_key(self) -> str:
        return (self.folder / "host_key.pub").read_text()

    def set_session(
        self,
        *,
        path: str = PATH,
        limits: str = "",
        home: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """What every session has: its PATH, its home, a line such as `ulimit -f 10`, and more."""
        self.path = path
        session = self.folder / "session"
        session.write_text(
            SESSION.format(
                home=shlex.quote(str(home or self.home)),
                user=self.user,
                path=shlex.quote(path),
                limits=limits,
                variables=shlex.join(f"{k}={v}" for k, v in (variables or {}).items()),
            )
        )
        session.chmod(0o755)

    def path_with(self, *programs: str, without: Sequence[str] = ()) -> str:
        """A PATH of one folder with links to all of /bin and /usr/bin but those named."""
        folder = self.folder / f"bin-{len(list(self.folder.glob('bin-*')))}"
        folder.mkdir()
        for source in (Path("/usr/bin"), Path("/bin")):
            for program in source.iterdir():
                if program.name not in without:
                    with suppress(FileExistsError):
                        (folder / program.name).symlink_to(program)
        return str(folder)

    def start(self) -> None:
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        log = (self.folder / "sshd.log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"sshd did not start: {(self.folder / 'sshd.log').read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def change_host_key(self) -> None:
        """Another machine answers at the same address."""
        self.stop()
        make_key(self.folder / "host_key")
        self.start()

    def target(self, port: int | None = None, host_key: str | None = None) -> Target:
        return Target("127.0.0.1", self.user, port or self.port, self.key_file, host_key)

    def machine(self, folder: Path, port: int | None = None, **options: object) -> RemoteMachine:
        return RemoteMachine(self.target(port), folder, **options)  # type: ignore[arg-type]

    def end_processes(self) -> None:
        """End what sessions left running: every process whose home is this server's."""
        mine = f"HOME={self.home}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                if mine in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), 9)


@contextmanager
def running_sshd(folder: Path) -> Iterator[Sshd]:
    """A server for the block; skips the test where there is no OpenSSH server to run."""
    if not Path(SSHD).exists() or any(shutil.which(name) is None for name in NEEDED):
        pytest.skip("OpenSSH's sshd is not installed (`apt-get install openssh-server`)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = Sshd(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.end_processes()


def make_key(file: Path) -> None:
    """A new ed25519 key pair without a passphrase."""
    for old in (file, file.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "throw-away", "-f", str(file)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
