"""A conversation with a trained model, streamed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from aquachat.errors import ConfigError
from aquachat.infer.engine import Engine, generation_dtype
from aquachat.infer.types import Completion, SamplingParams
from aquachat.pipeline.context import RunContext
from aquachat.text.conversation import Conversation, Message, PartKind, Role, text_message
from aquachat.text.render import ChatRenderer
from aquachat.text.reply_stream import Piece, ReplyStream
from aquachat.text.tokenizer import Tokenizer
from aquachat.train.lineage import STAGES, LoadedModel, find_origin, load_model


def open_model(context: RunContext) -> tuple[LoadedModel, Engine]:
    """The checkpoint that `--from` names, else that of the run's latest stage.

    Raises:
        MissingFileError: the run has none.
    """
    stages = [s for s in reversed(STAGES) if context.home.stage(context.run, s).is_dir()]
    reference = context.origin or (stages[0] if stages else "sft")
    origin = find_origin(reference, context.home, context.run)
    world = context.world
    loaded = load_model(origin, world.device)
    dtype = world.dtype
    if context.recipe.run.dtype == "auto":
        dtype = generation_dtype(loaded.model.config, world.device, dtype)
    return loaded, Engine(loaded.model, loaded.tokenizer, device=world.device, dtype=dtype)


@dataclass(slots=True)
class PieceText:
    """Pieces of a reply as a terminal shows them: a calculator call is `[60*3 = 180]`."""

    _is_open: bool = False

    def push(self, piece: Piece) -> str:
        """The text to write."""
        if piece.kind is PartKind.TEXT:
            return self.finish() + piece.text
        before = ""
        if piece.starts and piece.kind is PartKind.PYTHON:
            before = self.finish() + "["
        elif piece.starts:
            before = " = "
        self._is_open = True
        return before + piece.text

    def finish(self) -> str:
        """What closes a call."""
        was_open, self._is_open = self._is_open, False
        return "] " if was_open else ""


@dataclass(slots=True)
class Talker:
    """Holds the history and asks the engine."""

    engine: Engine
    renderer: ChatRenderer
    tokenizer: Tokenizer
    params: SamplingParams
    checkpoint: str
    history: list[Message] = field(default_factory=list)
    _last: Completion | None = None

    @classmethod
    def open(
        cls,
        context: RunContext,
        *,
        temperature: float,
        top_k: int,
        top_p: float,
        max_new_tokens: int,
        tools: bool,
    ) -> Talker:
        """Load the checkpoint that `--from` names, else that of the run's latest stage.

        Raises:
            MissingFileError: the run has none.
        """
        loaded, engine = open_model(context)
        params = SamplingParams(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=context.recipe.run.seed,
            tools=tools,
        )
        renderer, name = ChatRenderer(loaded.tokenizer), loaded.origin.name
        return cls(engine, renderer, loaded.tokenizer, params, name)

    def ask(self, question: str) -> Generator[str, None, None]:
        """The reply to `question` as it is written; both join the history.

        A reply that is not read to its end leaves no trace, nor does its question.

        Raises:
            ConfigError: the question is empty, or the conversation fills the model's context.
        """
        if not question.strip():
            raise ConfigError("the question is empty", hint='write `aquachat chat "question"`')
        self._last = None
        self.history.append(text_message(Role.USER, question))
        try:
            prompt = self.renderer.prompt(Conversation(tuple(self.history)))
            stream, shown = ReplyStream(self.renderer, self.tokenizer), PieceText()
            for event in self.engine.stream(prompt, self.params):
                for token in event.tokens:
                    yield from map(shown.push, stream.push(token))
                if event.completion is not None:
                    self._last = event.completion
            yield from map(shown.push, stream.finish())
            yield shown.finish()
        finally:
            self._remember()

    def reset(self) -> None:
        """Forget the conversation."""
        self.history.clear()

    def forget_last(self) -> None:
        """Forget the last question and its reply; nothing where there is none."""
        del self.history[-2:]

    def last_reply(self) -> dict[str, Any]:
        """`{"text", "tokens", "finish"}` of the last reply."""
        assert self._last is not None
        return {
            "text": self.renderer.parse(self._last.tokens).text,
            "tokens": list(self._last.tokens),
            "finish": str(self._last.finish),
        }

    def _remember(self) -> None:
        """Keep the reply, or forget the question where none was finished."""
        if self._last is None:
            self.history.pop()
            return
        self.history.append(self.renderer.parse(self._last.tokens).message)
