"""The ledger keeps every record, whatever happens to the process or the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aquachat.cloud.jobs import MachineState, OrderState, jobs_of
from aquachat.cloud.ledger import Event, Ledger, Record
from aquachat.cloud.locking import is_locked, locked
from aquachat.cloud.redaction import Redactor
from aquachat.errors import DataError
from tests.cloud.fake_cloud import KEY, FakeClock

INTENT = Record(
    Event.INTENT,
    "1a2b3c4d",
    "lambda",
    order="aquachat-1a2b3c4d-6ab13b80-240m",
    details={"price_usd_per_hour": "3.29", "max_hours": 4.0},
)
CREATED = Record(Event.CREATED, "1a2b3c4d", "lambda", order=INTENT.order, instance_id="i-1")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "cloud" / "ledger.jsonl", FakeClock(), redactor=Redactor([KEY], {}))


def test_what_is_appended_is_read_again(ledger: Ledger) -> None:
    written = [ledger.append(INTENT), ledger.append(CREATED)]
    assert list(ledger.read().records) == written
    assert ledger.read().num_damaged == 0


def test_a_missing_ledger_is_empty_and_reading_makes_no_file(ledger: Ledger) -> None:
    assert ledger.read().records == ()
    assert not ledger.path.exists()


def test_each_record_is_synced_before_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    synced: list[int] = []
    ledger = Ledger(path, FakeClock(), fsync=lambda handle: synced.append(path.stat().st_size))
    for count in (1, 2, 3):
        ledger.append(INTENT)
        assert len(synced) == count
        assert synced[-1] == path.stat().st_size, "synced after the last byte was written"


@pytest.mark.parametrize("cut", [1, 2, 40, 80])
def test_a_torn_last_line_is_set_apart_and_what_was_before_is_kept(
    ledger: Ledger, cut: int
) -> None:
    first = ledger.append(INTENT)
    ledger.append(CREATED)
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content[: -cut - 1])
    assert ledger.read().records == (first,)
    third = ledger.append(CREATED)
    assert ledger.read().records == (first, third)
    torn = content[: -cut - 1].split(b"\n")[1]
    assert ledger.torn_path.read_bytes() == torn + b"\n"


def test_a_last_line_that_only_lost_its_newline_is_a_record(ledger: Ledger) -> None:
    first, second = ledger.append(INTENT), ledger.append(CREATED)
    ledger.path.write_bytes(ledger.path.read_bytes()[:-1])
    assert ledger.read().records == (first, second)
    third = ledger.append(CREATED)
    assert ledger.read().records == (first, second, third)
    assert not ledger.torn_path.exists()


def test_damage_in_the_middle_is_counted_and_stays_where_it_is(ledger: Ledger) -> None:
    first = ledger.append(INTENT)
    with ledger.path.open("ab") as file:
        file.write(b'\xff\xfe{"half\n[]\n{"event": "of the future", "job": "x", "time_s": 1}\n')
    second = ledger.append(CREATED)
    assert ledger.read().records == (first, second)
    assert ledger.read().num_damaged == 3
    assert b"half" in ledger.path.read_bytes()


def test_a_very_long_torn_line_is_set_apart_whole(ledger: Ledger) -> None:
    first = ledger.append(INTENT)
    with ledger.path.open("ab") as file:
        file.write(b"x" * 20_000)
    assert ledger.append(CREATED).job == "1a2b3c4d"
    assert len(ledger.read().records) == 2
    assert ledger.read().records[0] == first
    assert ledger.torn_path.read_bytes() == b"x" * 20_000 + b"\n"


def test_a_full_disk_is_a_sentence_and_costs_no_earlier_record(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ledger.append(INTENT)
    real = os.write

    def half_then_full(handle: int, content: bytes) -> int:
        if len(content) > 20:
            return real(handle, content[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half_then_full)
        with pytest.raises(DataError, match="the disk is full"):
            ledger.append(CREATED)
    second = ledger.append(CREATED)
    assert ledger.read().records == (first, second)


def test_threads_and_processes_do_not_mix_their_lines(ledger: Ledger) -> None:
    code = (
        "import sys; from pathlib import Path; from aquachat.cloud.clock import SystemClock;"
        "from aquachat.cloud.ledger import Event, Ledger, Record\n"
        "ledger = Ledger(Path(sys.argv[1]), SystemClock())\n"
        "for i in range(20): ledger.append(Record(Event.STATUS, 'p', instance_id='x' * 200))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(ledger.path)])
    real = Ledger(ledger.path, _real_clock())

    def write() -> None:
        for _ in range(20):
            real.append(Record(Event.STATUS, "t", instance_id="y" * 200))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait(60) == 0
    contents = ledger.read()
    assert len(contents.records) == 60
    assert contents.num_damaged == 0


def test_a_lock_that_is_not_let_go_is_a_sentence(ledger: Ledger) -> None:
    clock = FakeClock()
    lock = ledger.path.with_name("ledger.lock")
    with (
        locked(lock, clock=clock, wait_s=0, holder="a test"),
        pytest.raises(DataError, match=r"in use by another aquachat"),
    ):
        ledger.append(INTENT)
    ledger.append(INTENT)


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "alive.lock"
    code = (
        "import sys; from pathlib import Path; from aquachat.cloud.clock import SystemClock;"
        "from aquachat.cloud.locking import locked\n"
        "with locked(Path(sys.argv[1]), clock=SystemClock(), wait_s=0, holder='x'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert is_locked(path)
    process.kill()
    process.wait(60)
    assert not is_locked(path)


def test_no_secret_and_no_unknown_field_gets_into_the_ledger(ledger: Ledger) -> None:
    ledger.append(Record(Event.LEFT, "j", details={"reason": f"Bearer {KEY} was refused"}))
    assert KEY not in ledger.path.read_text()
    with pytest.raises(ValueError, match="jupyter_token"):
        ledger.append(Record(Event.STATUS, "j", details={"jupyter_token": "x"}))


def test_the_ledger_is_readable_by_its_owner_alone(ledger: Ledger) -> None:
    ledger.append(INTENT)
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_states_follow_from_records() -> None:
    job = jobs_of([INTENT])["1a2b3c4d"]
    assert [order.state for order in job.unsettled] == [OrderState.OPEN]
    job = jobs_of([INTENT, CREATED])["1a2b3c4d"]
    assert job.unsettled == []
    (machine,) = job.live
    assert str(machine.price_usd_per_hour) == "3.29"
    ending = Record(Event.TERMINATING, "1a2b3c4d", "lambda", instance_id="i-1")
    left = Record(Event.LEFT, "1a2b3c4d", "lambda", instance_id="i-1")
    ended = Record(Event.TERMINATED, "1a2b3c4d", "lambda", instance_id="i-1", time_s=9.0)
    job = jobs_of([INTENT, CREATED, ending])["1a2b3c4d"]
    assert job.live[0].state is MachineState.TERMINATING
    job = jobs_of([INTENT, CREATED, ending, left])["1a2b3c4d"]
    assert job.live[0].is_left
    job = jobs_of([INTENT, CREATED, ending, left, ended])["1a2b3c4d"]
    assert job.live == []
    assert job.machines["i-1"].ended_at_s == 9.0


def test_a_machine_whose_earlier_records_were_lost_is_still_a_machine() -> None:
    (machine,) = jobs_of([CREATED])["1a2b3c4d"].live
    assert machine.instance_id == "i-1"
    left = Record(Event.LEFT, "x", "lambda", instance_id="i-2")
    assert jobs_of([left])["x"].live[0].is_left


def _real_clock() -> FakeClock:
    from aquachat.cloud.clock import SystemClock

    return SystemClock()  # type: ignore[return-value]
