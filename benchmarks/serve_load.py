"""Does a server hold many streams at once: no error, no refusal, no leak, nobody starved?

    python benchmarks/serve_load.py --run RUN
    python benchmarks/serve_load.py --run RUN --streams 200 --seconds 60 --keep

Starts `aquachat serve` with a queue that holds all streams. That many clients then ask one problem
after the other, each with one open stream at any time; a few more read slowly, and a few leave in
the middle of their replies. Clients and server share the machine, so the rates are a lower bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from record import keep, setting

from aquachat.tasks.multiple_choice import choice_example
from aquachat.tasks.synthetic import generate_items

QUANTILES = (0.05, 0.5, 0.95, 1.0)
WARM_UP_FRACTION = 0.25
"""Share of the time after which the server's memory is read for the first time: by then its caches
are as large as they get."""
NUM_PROBLEMS = 500


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    first_token_s: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)
    tokens: int = 0
    replies_by_client: Counter[int] = field(default_factory=Counter)


def main() -> None:
    """Measure, print, and with `--keep` write `results/serve_load.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="a run of AQUACHAT_HOME")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--slow", type=int, default=5, help="clients that read 200 bytes a second")
    parser.add_argument("--vanishing", type=int, default=5, help="clients that leave")
    parser.add_argument("--max-replies", type=int, default=64, help="of the server")
    parser.add_argument("--keep", action="store_true", help="write results/serve_load.json")
    arguments = parser.parse_args()
    document = setting("python benchmarks/serve_load.py --run RUN --keep") | measure(
        arguments.run,
        streams=arguments.streams,
        seconds=arguments.seconds,
        slow=arguments.slow,
        vanishing=arguments.vanishing,
        max_replies=arguments.max_replies,
    )
    if arguments.keep:
        keep("serve_load", document)
    print(json.dumps(document, indent=1))


def measure(
    run: str, *, streams: int, seconds: float, slow: int, vanishing: int, max_replies: int
) -> dict[str, Any]:
    """Serve `run`, load it, stop it; what clients and `/metrics` say."""
    queue = streams + slow + 2 * vanishing
    command = [sys.executable, "-m", "aquachat", "serve", "--run", run, "--port", "0", "--json"]
    command += ["--max-replies", str(max_replies), "--queue", str(queue)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        found = asyncio.run(load(url, server.pid, streams, seconds, slow, vanishing))
    finally:
        server.terminate()
        found_code = server.wait(60)
    return {
        "streams": streams,
        "seconds": seconds,
        "slow_clients": slow,
        "vanishing_clients": vanishing,
        "max_replies": max_replies,
        **found,
        "exit_code": found_code,
    }


async def load(
    url: str, pid: int, streams: int, seconds: float, slow: int, vanishing: int
) -> dict[str, Any]:
    """Load the server at `url`, whose process is `pid`; what its clients saw."""
    items = generate_items("new_numbers", 3, NUM_PROBLEMS)
    problems = [choice_example(item).conversation.messages[0].text for item in items]
    seen = Seen()
    ends_s = time.monotonic() + seconds
    clients = [
        asyncio.create_task(_client(url, number, problems, seen, ends_s))
        for number in range(streams)
    ]
    others = [asyncio.create_task(_slow_client(url, problems, seen, ends_s)) for _ in range(slow)]
    others += [
        asyncio.create_task(_vanishing_client(url, problems, ends_s)) for _ in range(vanishing)
    ]
    await asyncio.sleep(seconds * WARM_UP_FRACTION)
    rss_before = rss_bytes(pid)
    await asyncio.gather(*clients, *others)
    await _settled(url)
    rss_after = rss_bytes(pid)
    per_client = [seen.replies_by_client[number] for number in range(streams)]
    return {
        "statuses": dict(seen.statuses),
        "replies": sum(per_client),
        "replies_per_client": _quantiles(per_client),
        "first_token_s": _quantiles(seen.first_token_s),
        "stream_tokens_per_second": _quantiles(seen.tokens_per_second),
        "tokens_per_second": round(seen.tokens / seconds, 1),
        "rss_bytes_warm": rss_before,
        "rss_bytes_after": rss_after,
        "metrics": await _metrics(url),
    }


async def _client(
    url: str, number: int, problems: Sequence[str], seen: Seen, ends_s: float
) -> None:
    """One open stream at any time, until the end of the time; the last one is read to its end."""
    chance = random.Random(number)
    while time.monotonic() < ends_s:
        started_s = time.monotonic()
        first_s, usage, status, is_done = 0.0, 0, "no answer", False
        reader, writer = await _ask(url, chance.choice(problems), seed=chance.randrange(10**6))
        try:
            status = (await reader.readline()).split(b" ")[1].decode()
            while line := await reader.readline():
                if b'"content":"' in line and b'"content":""' not in line:
                    first_s = first_s or time.monotonic()
                if b'"usage":{' in line:
                    usage = json.loads(line[6:])["usage"]["completion_tokens"]
                is_done = is_done or line == b"data: [DONE]\n"
        except (OSError, IndexError) as error:
            status = type(error).__name__
        finally:
            writer.close()
        if not is_done:
            seen.statuses[f"{status} unfinished" if status == "200" else status] += 1
            continue
        seen.statuses[status] += 1
        seen.replies_by_client[number] += 1
        seen.tokens += usage
        first_s = first_s or time.monotonic()
        seen.first_token_s.append(first_s - started_s)
        span_s = time.monotonic() - first_s
        if usage > 1 and span_s > 0:
            seen.tokens_per_second.append((usage - 1) / span_s)


async def _slow_client(url: str, problems: Sequence[str], seen: Seen, ends_s: float) -> None:
    while time.monotonic() < ends_s:
        reader, writer = await _ask(url, random.choice(problems), seed=1)
        while time.monotonic() < ends_s and await reader.read(20):
            await asyncio.sleep(0.1)
        writer.close()
        seen.statuses["slow client"] += 1


async def _vanishing_client(url: str, problems: Sequence[str], ends_s: float) -> None:
    while time.monotonic() < ends_s:
        reader, writer = await _ask(url, random.choice(problems), seed=1)
        await reader.read(400)
        await asyncio.sleep(random.random())
        writer.transport.abort()


async def _ask(
    url: str, problem: str, *, seed: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    body = {
        "messages": [{"role": "user", "content": problem}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": seed,
        "max_tokens": 128,
    }
    return await _request(url, "POST", "/v1/chat/completions", json.dumps(body).encode())


async def _request(
    url: str, method: str, path: str, body: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    return reader, writer


async def _metrics(url: str) -> dict[str, float]:
    reader, writer = await _request(url, "GET", "/metrics")
    text = (await reader.read()).decode().partition("\r\n\r\n")[2]
    writer.close()
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("aquachat_")]
    return {
        name: float(value)
        for name, _, value in lines
        if "{" not in name and not name.endswith("_sum")
    }


async def _settled(url: str) -> None:
    """Wait until the server has nothing left to do."""
    for _ in range(600):
        found = await _metrics(url)
        if not found["aquachat_active_replies"] + found["aquachat_waiting_replies"]:
            return
        await asyncio.sleep(0.1)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    shown = {f"p{round(100 * q)}": ordered[round(q * (len(ordered) - 1))] for q in QUANTILES}
    return {"min": round(ordered[0], 4)} | {name: round(value, 4) for name, value in shown.items()}


if __name__ == "__main__":
    main()
