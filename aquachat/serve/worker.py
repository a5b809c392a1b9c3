"""The one thread that runs the model, and the mailbox through which the event loop talks to it.

Requests are admitted between two steps of the scheduler; what a step gives is handed to the event
loop in one call. All bookkeeping is done on the loop, so there are no locks: the thread knows
requests by number only.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from aquachat.errors import TryLaterError
from aquachat.infer.engine import Engine
from aquachat.infer.scheduler import Scheduler
from aquachat.infer.types import Event, Request, RequestId

RATE_WINDOW: Final = 64
"""Finished replies that the estimate of a free place is made from."""
MAX_RETRY_S: Final = 60


class QueueFullError(TryLaterError):
    """No place in the queue; `retry_after_s` says when there may be one."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelStoppedError(TryLaterError):
    """The model's thread has ended: the server stops."""


@dataclass(slots=True)
class Ticket:
    """Prompts in the worker's hands, each continued `num_samples` times; belongs to the event loop.

    Replies are numbered over all prompts: reply `p * num_samples + s` is sample s of prompt p.
    """

    numbers: tuple[int, ...]
    """One for each prompt."""
    num_samples: int
    submitted_s: float
    num_open: int
    """Replies without a completion."""
    _events: list[tuple[int, Event]] = field(default_factory=list)
    _is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: Exception | None = None

    async def events(self) -> list[tuple[int, Event]]:
        """What has come since the last call, with the reply's number; waits for something.

        Raises:
            ModelStoppedError: nothing will come any more.
        """
        await self._is_ready.wait()
        if self._failure is not None and not self._events:
            raise self._failure
        found, self._events = self._events, []
        if self._failure is None:
            self._is_ready.clear()
        return found

    def put(self, number: int, event: Event) -> None:
        """Take an event of the prompt with this number."""
        first = self.numbers.index(number) * self.num_samples
        self._events.append((first + event.sample, event))
        self._is_ready.set()

    def fail(self, error: Exception) -> None:
        """Let `events` raise, after what has come already."""
        self._failure = error
        self._is_ready.set()


@dataclass(frozen=True, slots=True)
class _Submit:
    number: int
    request: Request


@dataclass(frozen=True, slots=True)
class _Cancel:
    number: int
    sample: int | None


@dataclass(frozen=True, slots=True)
class _Score:
    number: int
    prompt: tuple[int, ...]
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_Command = _Submit | _Cancel | _Score | _Stop


@dataclass(frozen=True, slots=True)
class _StepResult:
    """What the thread hands to the loop."""

    events: list[tuple[int, Event]]
    scores: list[tuple[int, list[float]]]
    num_active_rows: int


@dataclass(slots=True)
class WorkerCounts:
    """What `/metrics` shows of the worker."""

    active_rows: int = 0
    open_samples: int = 0
    completion_tokens: int = 0
    cancelled_samples: int = 0
    refused: int = 0


class ModelWorker:
    """Decodes what is submitted, in one thread, with continuous batching.

    `start`, `submit`, `cancel`, `score` and `stop` are called on one event loop.
    """

    def __init__(self, engine: Engine, *, max_rows: int, max_waiting: int, max_tokens: int) -> None:
        """Make the cache.

        Args:
            engine: the model.
            max_rows: replies that decode together, fewer where memory is short.
            max_waiting: replies that may wait for a place.
            max_tokens: longest reply.
        """
        longest = max(1, engine.context_tokens - 1)
        self._engine = engine
        self._scheduler = engine.scheduler(
            max_prompt_tokens=longest,
            max_new_tokens=min(max_tokens, longest),
            max_rows=max_rows,
            max_groups=max_rows,
        )
        self.max_rows = self._scheduler.max_rows
        self.capacity = self.max_rows + max_waiting
        self.counts = WorkerCounts()
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        """Called on the loop when the thread ends with an error."""
        self._mailbox: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._tickets: dict[int, Ticket] = {}
        self._scores: dict[int, asyncio.Future[list[float]]] = {}
        self._finished_s: deque[float] = deque(maxlen=RATE_WINDOW)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._is_stopped = False

    def start(self) -> None:
        """Start the thread; results come on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current step; open requests fail."""
        if self._is_stopped:
            return
        self._mailbox.put(_Stop())
        self._fail_all()

    def join(self) -> None:
        """Wait for the thread; only after `stop`."""
        self._thread.join()

    def submit(self, requests: Sequence[Request]) -> Ticket:
        """Queue requests that differ in their prompts, all or none.

        Raises:
            QueueFullError: their replies find no place.
            ModelStoppedError: the worker was stopped.
        """
        if self._is_stopped:
            raise ModelStoppedError("the server is stopping")
        num_samples = requests[0].params.num_samples
        num_replies = num_samples * len(requests)
        if self.counts.open_samples + num_replies > self.capacity:
            self.counts.refused += 1
            raise QueueFullError(
                f"{self.counts.open_samples} replies are being written or wait, {num_replies} more "
                f"are beyond the {self.capacity} that can",
                self._seconds_until_free(num_replies),
            )
        numbers = tuple(next(self._numbers) for _ in requests)
        ticket = Ticket(numbers, num_samples, monotonic(), num_replies)
        self.counts.open_samples += num_replies
        for number, request in zip(numbers, requests, strict=True):
            self._tickets[number] = ticket
            self._mailbox.put(_Submit(number, request))
        return ticket

    def cancel(self, ticket: Ticket, reply: int | None = None) -> None:
        """End all replies of a ticket, or one that has begun."""
        if not ticket.num_open:
            return
        if reply is not None:
            prompt, sample = divmod(reply, ticket.num_samples)
            self._mailbox.put(_Cancel(ticket.numbers[prompt], sample))
            return
        for number in ticket.numbers:
            self._mailbox.put(_Cancel(number, None))

    async def score(self, prompt: Sequence[int], candidates: Sequence[int]) -> list[float]:
        """The logits of `candidates` as the token after `prompt`, computed between two steps.

        Raises:
            ModelStoppedError: the worker was stopped.
        """
        if self._is_stopped:
            raise ModelStoppedError("the server is stopping")
        number = next(self._numbers)
        future: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        self._scores[number] = future
        self._mailbox.put(_Score(number, tuple(prompt), tuple(candidates)))
        try:
            return await future
        finally:
            self._scores.pop(number, None)

    @property
    def is_running(self) -> bool:
        """Whether requests are taken."""
        return not self._is_stopped

    def _seconds_until_free(self, num_samples: int) -> int:
        """At the rate of the last replies; 1 where nothing is known."""
        if len(self._finished_s) < 2:
            return 1
        span_s = monotonic() - self._finished_s[0]
        return min(MAX_RETRY_S, max(1, round(num_samples * span_s / len(self._finished_s))))

    def _deliver(self, result: _StepResult) -> None:
        self.counts.active_rows = result.num_active_rows
        for number, event in result.events:
            self.counts.completion_tokens += len(event.tokens)
            ticket = self._tickets.get(number)
            if ticket is None:
                continue
            if event.completion is not None:
                self._note_finished(ticket, is_cancelled=event.completion.finish == "cancelled")
            ticket.put(number, event)
        for number, logits in result.scores:
            future = self._scores.get(number)
            if future is not None and not future.done():
                future.set_result(logits)

    def _note_finished(self, ticket: Ticket, *, is_cancelled: bool) -> None:
        ticket.num_open -= 1
        self.counts.open_samples -= 1
        self.counts.cancelled_samples += is_cancelled
        self._finished_s.append(monotonic())
        if not ticket.num_open:
            for number in ticket.numbers:
                del self._tickets[number]

    def _fail_all(self) -> None:
        self._is_stopped = True
        error = ModelStoppedError("the server stopped before the reply was finished")
        for ticket in {id(each): each for each in self._tickets.values()}.values():
            self.counts.open_samples -= ticket.num_open
            ticket.num_open = 0
            ticket.fail(error)
        self._tickets.clear()
        for future in self._scores.values():
            if not future.done():
                future.set_exception(error)

    def _note_failure(self, error: BaseException) -> None:
        self.failure = error
        self._fail_all()
        self.on_failure()

    def _call_loop(self, function: Callable[..., None], argument: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, argument)

    def _run(self) -> None:
        """The thread: a failure is a bug, which ends the server and is raised there."""
        try:
            _Model(self._engine, self._scheduler, self._mailbox).run(
                lambda result: self._call_loop(self._deliver, result)
            )
        except BaseException as error:
            self._call_loop(self._note_failure, error)


class _Model:
    """What the thread owns."""

    def __init__(
        self, engine: Engine, scheduler: Scheduler, mailbox: queue.SimpleQueue[_Command]
    ) -> None:
        self._engine, self._scheduler, self._mailbox = engine, scheduler, mailbox
        self._ids: dict[int, RequestId] = {}
        self._numbers: dict[RequestId, int] = {}
        self._open: dict[RequestId, int] = {}

    def run(self, deliver: Callable[[_StepResult], None]) -> None:
        """Work until a `_Stop` comes."""
        while True:
            commands = self._commands()
            if any(isinstance(command, _Stop) for command in commands):
                return
            self._obey(commands)
            scores = self._score([each for each in commands if isinstance(each, _Score)])
            events = self._scheduler.step() if self._scheduler.is_busy else []
            named = [(self._numbers[event.request], event) for event in events]
            for event in events:
                if event.completion is not None:
                    self._forget_finished(event.request)
            if named or scores:
                deliver(_StepResult(named, scores, self._scheduler.num_active_rows))

    def _commands(self) -> list[_Command]:
        """All that wait; waits for one where there is nothing to do."""
        found: list[_Command] = []
        if not self._scheduler.is_busy:
            found.append(self._mailbox.get())
        while True:
            try:
                found.append(self._mailbox.get_nowait())
            except queue.Empty:
                return found

    def _obey(self, commands: Sequence[_Command]) -> None:
        for command in commands:
            if isinstance(command, _Submit):
                request = self._scheduler.submit(command.request)
                self._ids[command.number], self._numbers[request] = request, command.number
                self._open[request] = command.request.params.num_samples
            elif isinstance(command, _Cancel) and command.number in self._ids:
                self._scheduler.cancel(self._ids[command.number], command.sample)

    def _score(self, wanted: Sequence[_Score]) -> list[tuple[int, list[float]]]:
        """Those with the same candidates together."""
        found: list[tuple[int, list[float]]] = []
        for candidates in dict.fromkeys(each.candidates for each in wanted):
            same = [each for each in wanted if each.candidates == candidates]
            logits = self._engine.next_logits([each.prompt for each in same], candidates)
            found += zip([each.number for each in same], logits.tolist(), strict=True)
        return found

    def _forget_finished(self, request: RequestId) -> None:
        self._open[request] -= 1
        if not self._open[request]:
            del self._open[request]
            del self._ids[self._numbers.pop(request)]
