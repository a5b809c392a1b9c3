"""What the handlers share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from aquachat.pipeline.problems import Problems
from aquachat.serve.errors import ApiError
from aquachat.serve.metrics import Metrics
from aquachat.serve.model import ServedModel
from aquachat.serve.replies import Delta
from aquachat.serve.requests import Job
from aquachat.serve.worker import ModelStoppedError, ModelWorker, QueueFullError, Ticket


@dataclass(slots=True)
class Service:
    """One model behind one address."""

    served: ServedModel
    worker: ModelWorker
    problems: Problems
    runs_dir: Path
    metrics: Metrics = field(default_factory=Metrics)
    is_stopping: bool = False
    """New requests are refused; those that run may finish."""

    def submit(self, job: Job) -> Ticket:
        """Hand a job to the model.

        Raises:
            ApiError: the queue is full (429), or the server stops (503).
        """
        if self.is_stopping:
            raise stopping()
        try:
            ticket = self.worker.submit(job.requests)
        except QueueFullError as error:
            raise ApiError(
                429, error.message, code="queue_full", retry_after_s=error.retry_after_s
            ) from error
        except ModelStoppedError as error:
            raise stopping() from error
        self.metrics.prompt_tokens += job.num_prompt_tokens
        return ticket

    def note_first_token(self, ticket: Ticket) -> None:
        """Observe how long a request waited for its first token."""
        self.metrics.first_token_s.observe(time.monotonic() - ticket.submitted_s)

    def note_finished(self, ticket: Ticket) -> None:
        """Observe how long a request took."""
        self.metrics.reply_s.observe(time.monotonic() - ticket.submitted_s)


def stopping() -> ApiError:
    """The refusal of a server that is about to end."""
    return ApiError(503, "the server is stopping", code="stopping", retry_after_s=5)


def merged(whole: Delta, delta: Delta) -> None:
    """Add what is new to what there is of a reply."""
    whole.pieces += delta.pieces
    whole.scores += delta.scores
    whole.num_tokens += delta.num_tokens
    whole.finish = delta.finish or whole.finish
