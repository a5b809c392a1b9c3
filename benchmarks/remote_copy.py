"""How long do many small files take to a machine that is 80 ms away?

    python benchmarks/remote_copy.py --keep

A real OpenSSH server on loopback behind a proxy that delays every byte by half the round trip; no
limit on bandwidth. Each time is that of a whole copy with its log-in, checksum included for ours.
The peers are paramiko's own SFTP, one file after the other over one connection, and `scp -r`; both
need seconds for each dozen files, so they copy fewer of them, and we the same ones in turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from pages import table
from record import ROOT, alternate, keep, ratio_row, setting

sys.path.insert(0, str(ROOT))

from aquachat.cloud.transfer import send_project
from tests.cloud.proxy import Proxy
from tests.cloud.sshd import Sshd

ROUND_TRIP_S = 0.080
NUM_FILES, NUM_PEER_FILES = 300, 60
FILE_BYTES = 4096
NUM_FOLDERS = 7
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")


class Copies:
    """The same folder, copied in several ways to a machine behind a slow wire."""

    def __init__(self, folder: Path, server: Sshd, port: int) -> None:
        self._folder, self._server, self._port = folder, server, port
        self._numbers = itertools.count()

    def files(self, number: int) -> Path:
        """A folder with so many files."""
        root = self._folder / f"{number}"
        for index in range(number):
            path = root / f"dir{index % NUM_FOLDERS}" / f"file{index}"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(FILE_BYTES))
        return root

    def ours(self, source: Path) -> None:
        """One archive over one channel."""
        number = next(self._numbers)
        target = f"ours{number}"
        with self._server.machine(self._folder / f"job{number}", self._port) as machine:
            send_project(machine, source, target)
        self._check(source, target)

    def sftp(self, source: Path) -> None:
        """File by file with `SFTPClient.put` of paramiko."""
        import paramiko

        target = f"sftp{next(self._numbers)}"
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1",
            self._port,
            self._server.user,
            key_filename=str(self._server.key_file),
            allow_agent=False,
            look_for_keys=False,
        )
        with client, client.open_sftp() as sftp:
            sftp.mkdir(target)
            for folder in sorted(path for path in source.iterdir() if path.is_dir()):
                sftp.mkdir(f"{target}/{folder.name}")
                for file in sorted(folder.iterdir()):
                    sftp.put(str(file), f"{target}/{folder.name}/{file.name}")
        self._check(source, target)

    def scp(self, source: Path) -> None:
        """OpenSSH's `scp -r`."""
        target = f"scp{next(self._numbers)}"
        options = ["-q", "-r", "-P", str(self._port), "-i", str(self._server.key_file)]
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        where = f"{self._server.user}@127.0.0.1:{target}"
        command = ["scp", *options, str(source), where]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        self._check(source, target)

    def _check(self, source: Path, target: str) -> None:
        there = self._server.home / target
        for file in (path for path in source.rglob("*") if path.is_file()):
            assert (there / file.relative_to(source)).read_bytes() == file.read_bytes(), file


def main() -> None:
    """Measure, print, and with `--keep` write `results/remote_copy.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the document")
    parser.add_argument("--keep", action="store_true", help="write results/remote_copy.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aquachat-copy-") as temporary:
        rows = _rows(Path(temporary), arguments.repeats)
    document = setting("python benchmarks/remote_copy.py --keep")
    document |= {"round_trip_s": ROUND_TRIP_S, "file_bytes": FILE_BYTES, "rows": rows}
    if arguments.keep:
        keep("remote_copy", document)
    print(json.dumps(document, indent=1) if arguments.json else "\n".join(copy_table(document)))


def copy_table(document: dict[str, Any]) -> list[str]:
    """The rows as a Markdown table."""
    header = ["files", "beside", "ours, s: median [min, max]", "peer, s", "times faster", "repeats"]
    return table(header, [_cells(row) for row in document["rows"]])


def _cells(row: dict[str, Any]) -> list[object]:
    ours = row["seconds"]["ours"]
    spread = f"{median(ours):.2f} [{min(ours):.2f}, {max(ours):.2f}]"
    if row["peer_name"] is None:
        return [row["files"], "-", spread, "-", "-", row["repeats"]]
    ratio = f"{row['ratio_median']:.1f} [{row['ratio_min']:.1f}, {row['ratio_max']:.1f}]"
    peer = f"{median(row['seconds']['peer']):.2f}"
    return [row["files"], row["peer_name"], spread, peer, ratio, row["repeats"]]


def _rows(folder: Path, repeats: int) -> list[dict[str, Any]]:
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = Sshd(folder / "sshd")
    with (folder / "sshd" / "sshd_config").open("a") as config:
        config.write(f"Subsystem sftp {SFTP_SERVER}\n")
    server.start()
    try:
        with Proxy(server.port, delay_s=ROUND_TRIP_S / 2) as proxy:
            copies = Copies(folder, server, proxy.port)
            rows = [_alone(copies, repeats)]
            peers = {"paramiko SFTP": copies.sftp, "scp -r": copies.scp}
            return rows + [_beside(copies, name, peer, repeats) for name, peer in peers.items()]
    finally:
        server.stop()
        server.end_processes()


def _alone(copies: Copies, repeats: int) -> dict[str, Any]:
    source, seconds = copies.files(NUM_FILES), []
    for _ in range(repeats):
        started = time.perf_counter()
        copies.ours(source)
        seconds.append(time.perf_counter() - started)
        print(f"ours {seconds[-1]:.3f} s", file=sys.stderr)
    nothing = dict.fromkeys(("peer", "peer_name", "ratio_median", "ratio_min", "ratio_max"))
    figures = {"name": f"{NUM_FILES} files", "files": NUM_FILES, "unit": "files/s"}
    rate = {"ours": NUM_FILES / median(seconds), "repeats": repeats}
    return figures | rate | nothing | {"seconds": {"ours": seconds, "peer": []}}


def _beside(
    copies: Copies, name: str, peer: Callable[[Path], None], repeats: int
) -> dict[str, Any]:
    source = copies.files(NUM_PEER_FILES)
    seconds = alternate(lambda: copies.ours(source), lambda: peer(source), repeats)
    row = ratio_row(f"{NUM_PEER_FILES} files", "files/s", NUM_PEER_FILES, seconds, name)
    return row | {"files": NUM_PEER_FILES}


if __name__ == "__main__":
    main()
