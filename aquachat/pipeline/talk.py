"""A conversation with a trained model, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aquachat.errors import ConfigError
from aquachat.infer.engine import Engine, generation_dtype
from aquachat.infer.types import Completion, SamplingParams
from aquachat.pipeline.context import RunContext
from aquachat.tasks.base import Example
from aquachat.tasks.multiple_choice import choice_example
from aquachat.tasks.synthetic import generate_items
from aquachat.text.conversation import Conversation, Message, Role, text_message
from aquachat.text.render import ChatRenderer
from aquachat.text.stream_decoder import StreamDecoder
from aquachat.text.tokenizer import Tokenizer
from aquachat.train.lineage import STAGES, LoadedModel, find_origin, load_model

PROBLEM_SEED = 2
_SHOWN_SPECIALS = {
    "<|python_start|>": "[",
    "<|python_end|>": "",
    "<|output_start|>": " = ",
    "<|output_end|>": "] ",
}
"""A calculator call is shown as `[60*3 = 180]`."""


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
            seed=context.recipe.run.seed,
            tools=tools,
        )
        renderer, name = ChatRenderer(loaded.tokenizer), loaded.origin.name
        return cls(engine, renderer, loaded.tokenizer, params, name)

    def ask(self, question: str) -> Iterator[str]:
        """The reply to `question` as it is written; both join the history.

        Raises:
            ConfigError: the question is empty, or the conversation fills the model's context.
        """
        if not question.strip():
            raise ConfigError("the question is empty", hint='write `aquachat chat "question"`')
        self.history.append(text_message(Role.USER, question))
        prompt = self.renderer.prompt(Conversation(tuple(self.history)))
        decoder = StreamDecoder(self.tokenizer)
        specials = self.tokenizer.special_tokens
        shown = {specials[name]: text for name, text in _SHOWN_SPECIALS.items()}
        try:
            for event in self.engine.stream(prompt, self.params):
                for token in event.tokens:
                    if token in shown:
                        yield shown[token]
                    elif token not in specials.values():
                        yield decoder.push(token)
                if event.completion is not None:
                    self._last = event.completion
            yield decoder.finish()
        finally:
            self._remember()

    def draw_problem(self, number: int) -> Example:
        """A held-out problem to try the model on; another for each number."""
        item = next(generate_items("new_numbers", PROBLEM_SEED, 1, start=number))
        return choice_example(item)

    def reset(self) -> None:
        """Forget the conversation."""
        self.history.clear()

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
