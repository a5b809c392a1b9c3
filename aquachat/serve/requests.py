"""The bodies of `/v1/chat/completions` and `/v1/completions`, checked and made into prompts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aquachat.errors import DataError
from aquachat.infer.types import Request, SamplingParams
from aquachat.serve.errors import ApiError
from aquachat.serve.fields import Fields
from aquachat.serve.limits import DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE, LIMITS
from aquachat.serve.model import ServedModel
from aquachat.text.conversation import Conversation, conversation_from_json

MAX_SEED = 2**63 - 1
_NO_SUCH_POWER = "this model has only its own calculator; see the field `calculator`"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be generated for one request, and how it is to be told."""

    requests: tuple[Request, ...]
    """One for each prompt; choices are numbered over all of them."""
    streams: bool
    includes_usage: bool
    stops: tuple[str, ...]
    num_alternatives: int | None
    """Of the `logprobs` asked for; None where none are."""
    echo: bool = False

    @property
    def num_prompt_tokens(self) -> int:
        """Of all prompts."""
        return sum(len(request.prompt) for request in self.requests)


def chat_job(body: object, served: ServedModel) -> Job:
    """What a body of `/v1/chat/completions` asks for.

    Raises:
        ApiError: a field that cannot be used, or too long a conversation.
    """
    fields = Fields(body)
    _check_model(fields, served)
    conversation = _conversation(fields.get("messages"))
    wants_logprobs = fields.flag("logprobs", False)
    alternatives = fields.integer("top_logprobs", 0, 0, LIMITS.alternatives)
    if alternatives and not wants_logprobs:
        raise ApiError(400, "`top_logprobs` needs `logprobs`: true", parameter="top_logprobs")
    fields.only("tools", [[]], _NO_SUCH_POWER)
    fields.only("functions", [[]], _NO_SUCH_POWER)
    fields.only("tool_choice", ["none", "auto"], _NO_SUCH_POWER)
    fields.only("function_call", ["none", "auto"], _NO_SUCH_POWER)
    fields.only("response_format", [{"type": "text"}], "replies are text")
    fields.only("modalities", [["text"]], "replies are text")
    fields.ignore("parallel_tool_calls")
    if "max_tokens" in fields and "max_completion_tokens" in fields:
        raise ApiError(
            400, "give `max_tokens` or `max_completion_tokens`, not both", parameter="max_tokens"
        )
    longest = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    fields.ignore("max_tokens", "max_completion_tokens")
    params = sampling_params(fields, longest, tools=fields.flag("calculator", True))
    prompt = served.renderer.prompt(conversation)
    return _job(
        fields,
        served,
        [prompt],
        params,
        num_alternatives=alternatives if wants_logprobs else None,
    )


def completion_job(body: object, served: ServedModel) -> Job:
    """What a body of `/v1/completions` asks for: raw text goes on after `<|bos|>`.

    Raises:
        ApiError: a field that cannot be used, or too long a prompt.
    """
    fields = Fields(body)
    _check_model(fields, served)
    prompts = _prompts(fields.get("prompt"), served)
    alternatives = fields.integer("logprobs", 0, 0, 5)
    wants_logprobs = "logprobs" in fields
    fields.only("suffix", [""], "the model only writes forwards")
    fields.only("echo", [False], "the prompt is not repeated")
    fields.only("best_of", [1], "ask for `n` choices and choose")
    params = sampling_params(fields, "max_tokens", tools=fields.flag("calculator", False))
    return _job(
        fields,
        served,
        prompts,
        params,
        num_alternatives=alternatives if wants_logprobs else None,
    )


def _job(
    fields: Fields,
    served: ServedModel,
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    *,
    num_alternatives: int | None,
) -> Job:
    streams = fields.flag("stream", False)
    options = Fields(fields.get("stream_options") or {}, "`stream_options`")
    includes_usage = options.flag("include_usage", False)
    options.ignore("include_obfuscation")
    options.refuse_others()
    stops = fields.texts("stop", LIMITS.stops, LIMITS.stop_chars)
    for name in ("frequency_penalty", "presence_penalty"):
        fields.only(name, [0, 0.0], "tokens are not penalized for having been said")
    fields.only("logit_bias", [{}], "tokens are not biased")
    fields.only("service_tier", ["auto", "default"], "there is one")
    fields.only("store", [False], "nothing is stored")
    fields.ignore("user", "metadata", "safety_identifier", "prompt_cache_key")
    fields.refuse_others()
    for prompt in prompts:
        served.check_length(prompt)
    return Job(
        requests=tuple(
            Request(tuple(prompt), params, streams=True, num_alternatives=num_alternatives)
            for prompt in prompts
        ),
        streams=streams,
        includes_usage=includes_usage,
        stops=stops,
        num_alternatives=num_alternatives,
    )


def sampling_params(fields: Fields, longest: str, *, tools: bool) -> SamplingParams:
    """How to sample; `longest` names the field with the most tokens of a reply.

    Raises:
        ApiError: a field that cannot be used.
    """
    seed = fields.integer("seed", -1, -MAX_SEED - 1, MAX_SEED) if "seed" in fields else None
    fields.ignore("seed")
    top_p = fields.number("top_p", 1.0, 0.0, 1.0)
    return SamplingParams(
        max_new_tokens=fields.integer(longest, DEFAULT_MAX_TOKENS, 1, LIMITS.new_tokens),
        temperature=fields.number("temperature", DEFAULT_TEMPERATURE, 0.0, LIMITS.temperature),
        top_k=fields.integer("top_k", 0, 0, LIMITS.top_k),
        top_p=top_p or 1e-9,  # 0 keeps the likeliest token, as everywhere else
        num_samples=fields.integer("n", 1, 1, LIMITS.choices),
        seed=secrets.randbits(62) if seed is None else seed,
        tools=tools,
    )


def _check_model(fields: Fields, served: ServedModel) -> None:
    name = fields.text("model", "default", max_chars=300)
    if name not in (served.name, served.run, "default", "aquachat"):
        raise ApiError(
            404,
            f"there is no model `{name[:80]}` here, only `{served.name}`",
            code="model_not_found",
            parameter="model",
        )


def _conversation(messages: object) -> Conversation:
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "`messages` must be a list of at least one", parameter="messages")
    if len(messages) > LIMITS.messages:
        raise ApiError(
            400,
            f"{len(messages)} messages are too many, at most {LIMITS.messages} are allowed",
            parameter="messages",
        )
    rows = [_message(message, place) for place, message in enumerate(messages)]
    _check_chars([_num_chars(row) for row in rows], "messages")
    try:
        conversation = conversation_from_json(rows)
    except DataError as error:
        raise ApiError(400, error.message, parameter="messages") from error
    if rows[-1]["role"] != "user":
        raise ApiError(400, "the last message must be the user's", parameter="messages")
    return conversation


def _message(message: object, place: int) -> dict[str, Any]:
    """A message in the project's own form: `developer` is `system`, the calculator's parts stay."""
    name = f"messages[{place}]"
    fields = Fields(message, f"`{name}`")
    role = fields.get("role")
    role = "system" if role == "developer" else role
    if role not in ("system", "user", "assistant"):
        raise ApiError(
            400, f"`{name}.role` must be system, user or assistant", parameter=f"{name}.role"
        )
    content = fields.get("content")
    extension = fields.get("aquachat")
    if extension is not None:
        content = Fields(extension, f"`{name}.aquachat`").get("parts")
    fields.only("tool_calls", [[]], _NO_SUCH_POWER)
    fields.only("function_call", [None], _NO_SUCH_POWER)
    fields.ignore("name", "refusal", "annotations", "audio")
    fields.refuse_others()
    if isinstance(content, str):
        return {"role": role, "content": content}
    if not isinstance(content, list):
        raise ApiError(
            400, f"`{name}.content` must be text or a list of parts", parameter=f"{name}.content"
        )
    kinds = ("text", "python", "python_output") if role == "assistant" else ("text",)
    parts = [_part(part, f"{name}.content[{index}]", kinds) for index, part in enumerate(content)]
    return {"role": role, "content": parts}


def _part(part: object, name: str, kinds: Sequence[str]) -> dict[str, str]:
    if (
        not isinstance(part, Mapping)
        or part.get("type") not in kinds
        or not isinstance(part.get("text"), str)
    ):
        raise ApiError(400, f"`{name}` must have a `type` of {', '.join(kinds)} and a `text`")
    return {"type": part["type"], "text": part["text"]}


def _num_chars(row: Mapping[str, Any]) -> int:
    content = row["content"]
    return len(content) if isinstance(content, str) else sum(len(part["text"]) for part in content)


def _check_chars(lengths: Sequence[int], parameter: str) -> None:
    if max(lengths) > LIMITS.message_chars:
        raise ApiError(
            400,
            f"a message of {max(lengths):,} characters is too long, at most "
            f"{LIMITS.message_chars:,} are allowed",
            parameter=parameter,
        )
    if sum(lengths) > LIMITS.total_chars:
        raise ApiError(
            400,
            f"{sum(lengths):,} characters are too many, at most {LIMITS.total_chars:,} are allowed",
            parameter=parameter,
        )


def _prompts(value: object, served: ServedModel) -> list[list[int]]:
    """A text, a list of texts, the ids of a text, or a list of those."""
    prompts = value if isinstance(value, list) and value and not _is_ids(value) else [value]
    if len(prompts) > LIMITS.prompts:
        raise ApiError(
            400, f"at most {LIMITS.prompts} prompts are allowed at once", parameter="prompt"
        )
    found = []
    for prompt in prompts:
        if isinstance(prompt, str):
            _check_chars([len(prompt)], "prompt")
            found.append([served.renderer.bos_id, *served.tokenizer.encode_ordinary(prompt)])
        elif isinstance(prompt, list) and _is_ids(prompt):
            found.append(_checked_ids(prompt, served))
        else:
            raise ApiError(
                400, "`prompt` must be text, token ids, or a list of either", parameter="prompt"
            )
    return found


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    )


def _checked_ids(ids: list[int], served: ServedModel) -> list[int]:
    if not all(0 <= token < served.tokenizer.n_vocab for token in ids):
        raise ApiError(
            400,
            f"token ids must be from 0 to {served.tokenizer.n_vocab - 1}",
            parameter="prompt",
        )
    return ids
