"""Does the exported folder say the same in `transformers` as the model says here?

Run before an export takes its place. `transformers` is no dependency of aquachat: where it is not
installed there is nothing to compare with, and the command says so.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from aquachat.errors import DataError
from aquachat.hub.export import DTYPES, is_plain
from aquachat.hub.hf_tokenizer import CHAT_TEMPLATE_FILE, TOKENIZER_FILE
from aquachat.model.gpt import GPT
from aquachat.text.conversation import Conversation, Role, conversation_to_json, text_message
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer

MAX_LOGIT_DIFFERENCE: Final = 1e-3
"""Between two float32 computations of the same weights."""
NUM_GREEDY_TOKENS: Final = 24
QUESTIONS: Final = (
    "A car drives 60 km per hour for 3 hours. How far is that, in km?",
    "Two numbers add up to 12 and differ by 4.\n\nOptions:\nA)8\nB)6\nC)10\nD)4\nE)7",
    "Ünïcödé: 中文字符, 😀👍🏽, ½ of 1.234.567 —\u00a0“quoted”\r\n\tand\u2028  spaces   ",
)
_HINT: Final = (
    "please report this with the versions of torch and transformers; `--no-verify` writes the "
    "folder as it is"
)


def is_transformers_installed() -> bool:
    """Whether `verify_export` can be called: nanochat's class came with transformers 5."""
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return False
    return version.partition(".")[0].isdigit() and int(version.partition(".")[0]) >= 5


def verify_export(folder: Path, model: GPT, tokenizer: Tokenizer, dtype: str) -> dict[str, Any]:
    """Compare ids, chat, logits and greedy text on a few questions.

    Args:
        folder: the export.
        model: what was exported.
        tokenizer: what was exported.
        dtype: that the weights were written in; they are compared as rounded to it, in float32.

    Returns:
        `{"transformers", "prompts", "max_logit_difference", "greedy_tokens"}`.

    Raises:
        DataError: they differ.
    """
    import transformers

    with _silenced(transformers.utils.logging):
        theirs, loaded = _opened(folder, model)
    loaded.eval()
    renderer = ChatRenderer(tokenizer)
    prompts = [_same_prompt(renderer, tokenizer, theirs, question) for question in QUESTIONS]
    ours = _rounded(model, dtype)
    longest = model.config.max_seq_len - NUM_GREEDY_TOKENS
    prompts = [prompt[-max(longest, 1) :] for prompt in prompts]
    difference = max(_logit_difference(ours, loaded, prompt) for prompt in prompts)
    if not difference < MAX_LOGIT_DIFFERENCE:
        raise DataError(
            f"transformers computes other logits (by up to {difference:.2g}) from the export",
            hint=_HINT,
        )
    num_tokens = sum(_same_greedy(ours, loaded, prompt) for prompt in prompts)
    return {
        "transformers": transformers.__version__,
        "prompts": len(prompts),
        "max_logit_difference": difference,
        "greedy_tokens": num_tokens,
    }


def _opened(folder: Path, model: GPT) -> tuple[Any, Any]:
    """Tokenizer and model as transformers reads them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    if is_plain(model.config):
        found: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return AutoTokenizer.from_pretrained(folder), found
    # The same file that is shipped; with `trust_remote_code` a copy of it would stay in a cache.
    from aquachat.hub.remote_code.modeling_aquachat import AquachatForCausalLM

    found = AquachatForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return PreTrainedTokenizerFast.from_pretrained(folder), found


@contextmanager
def _silenced(logging: Any) -> Iterator[None]:
    """Keep the progress bars and notes of transformers out; errors are raised, not logged."""
    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()


def _same_prompt(
    renderer: ChatRenderer, tokenizer: Tokenizer, theirs: Any, question: str
) -> list[int]:
    """The ids of a question as it is asked, after both sides agreed on them."""
    if theirs.encode(question, add_special_tokens=False) != tokenizer.encode_ordinary(question):
        raise DataError(f"transformers reads other tokens from `{TOKENIZER_FILE}`", hint=_HINT)
    conversation = Conversation((text_message(Role.USER, question),))
    ids = renderer.prompt(conversation)
    rendered = theirs.apply_chat_template(
        conversation_to_json(conversation), add_generation_prompt=True, return_dict=False
    )
    if rendered != ids:
        raise DataError(
            f"transformers renders chat otherwise from `{CHAT_TEMPLATE_FILE}`", hint=_HINT
        )
    return ids


def _rounded(model: GPT, dtype: str) -> GPT:
    """The model with weights as the export has them, in float32 on the CPU."""
    state: Mapping[str, Tensor] = model.state_dict()
    twin = GPT(model.config)
    twin.load_state_dict({name: t.cpu().to(DTYPES[dtype]).float() for name, t in state.items()})
    return twin.eval()


@torch.inference_mode()
def _logit_difference(ours: GPT, theirs: Any, prompt: Sequence[int]) -> float:
    tokens = torch.tensor([prompt])
    return float((ours.logits(ours(tokens)) - theirs(tokens).logits).abs().max())


@torch.inference_mode()
def _same_greedy(ours: GPT, theirs: Any, prompt: Sequence[int]) -> int:
    """The number of greedy tokens, which are the same on both sides."""
    tokens = torch.tensor([prompt])
    answer = theirs.generate(tokens, max_new_tokens=NUM_GREEDY_TOKENS, do_sample=False)
    end = theirs.generation_config.eos_token_id
    while tokens.shape[1] < len(prompt) + NUM_GREEDY_TOKENS:
        following = ours.logits(ours(tokens)[:, -1]).argmax(-1, keepdim=True)
        tokens = torch.cat((tokens, following), 1)
        if int(following) == end:
            break
    if tokens.tolist() != answer.tolist():
        raise DataError("transformers writes another greedy text from the export", hint=_HINT)
    return tokens.shape[1] - len(prompt)
