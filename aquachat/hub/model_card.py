"""`README.md` of a released model: metadata for the hub, and a card for people.

Every figure in it stands in a file of `eval/` that is released with it, named beside the figure:
in the table, in `model-index`, and in `.eval_results/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

from aquachat.data.catalogue import DATASETS
from aquachat.errors import DataError
from aquachat.files import sha256_of

EVAL_FOLDER: Final = "eval"
EVAL_RESULTS_FOLDER: Final = ".eval_results"
_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_LICENCES: Final = {
    "MIT License": "mit",
    "Apache License": "apache-2.0",
    "GNU GENERAL PUBLIC LICENSE": "gpl-3.0",
    "Creative Commons Attribution-ShareAlike 4.0": "cc-by-sa-4.0",
    "Creative Commons Attribution 4.0": "cc-by-4.0",
}
_LIMITS: Final = """\
- It is a small model, trained on algebra word problems. Its answers are often wrong, and a
  rationale that reads well is no sign of a right one.
- Accuracy is the mean over the cyclic orders of the options where not said otherwise; compare it
  with the baselines beside it, not with zero.
- It knows little of the world, and has had no training in safety."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One result of the released checkpoint, and the file it stands in."""

    path: str
    """In the repository."""
    sha256: str
    document: Mapping[str, Any]

    @property
    def stem(self) -> str:
        """Of the file's name."""
        return Path(self.path).name.removesuffix(".json")

    @property
    def hub_set(self) -> tuple[str, str | None] | None:
        """Repository and configuration of the data set, None where the hub has none."""
        spec = DATASETS.get(str(self.document["task"]).lower())
        if spec is None or spec.hub is None:
            return None
        config = next(iter(spec.hub.splits.values())).config
        return spec.hub.repo, config


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card is made from."""

    record: Mapping[str, Any]
    """`aquachat.json` of the export."""
    evaluations: Sequence[Evaluation]
    datasets: Sequence[str]
    """Repositories on the hub that were trained on."""
    licence: str | None
    """An identifier of the hub's, None where it is not known."""
    repo_id: str | None
    endpoint: str

    @property
    def name(self) -> str:
        """What the model is called."""
        run = str(self.record["run"])
        return self.repo_id.split("/")[-1] if self.repo_id is not None else run

    @property
    def needs_remote_code(self) -> bool:
        """Whether loading takes `trust_remote_code=True`."""
        return bool(self.record["model"]["arch"] != "nanochat")

    def url_of(self, path: str) -> str:
        """The address of a file of the release, or its path where the repository has no name."""
        if self.repo_id is None:
            return path
        return f"{self.endpoint}/{self.repo_id}/blob/main/{quote(path)}"


def read_evaluations(folder: Path, checkpoint: str) -> list[tuple[Evaluation, Path]]:
    """The results of a checkpoint in a run's `eval` folder, sorted by name.

    Raises:
        DataError: a file of results is damaged.
    """
    found = []
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            document = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise DataError(
                f"`{file}` is not JSON ({error})", hint="evaluate again with `aquachat eval`"
            ) from error
        is_result = isinstance(document, dict) and "accuracy" in document and "task" in document
        if is_result and document.get("checkpoint") == checkpoint:
            path = f"{EVAL_FOLDER}/{file.name}"
            found.append((Evaluation(path, sha256_of(file), document), file))
    return found


def trained_datasets(run_dir: Path, stages: Iterable[str]) -> list[str]:
    """Repositories on the hub of the sets that these stages took rows from, in order."""
    found: dict[str, None] = {}
    for stage in stages:
        try:
            sources = json.loads((run_dir / stage / "mixture.json").read_text("utf-8"))["sources"]
            names = [str(entry["source"]).lower() for entry in sources]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        for name in names:
            spec = DATASETS.get(name.split("/")[0])
            if spec is not None and spec.hub is not None:
                found[spec.hub.repo] = None
    return list(found)


def licence_of(text: str) -> str:
    """The hub's identifier of a licence text; `other` for one that is not known."""
    head = " ".join(text[:2000].split())
    return next((name for title, name in _LICENCES.items() if title in head), "other")


def model_card(facts: CardFacts, readme: str) -> str:
    """The card, with the project's own README below it.

    Metadata that `readme` begins with wins over ours, but for `model-index`.

    Raises:
        DataError: that metadata is no YAML.
    """
    own, body = split_front_matter(readme)
    metadata = {**_metadata(facts), **own}
    if index := _model_index(facts):
        metadata["model-index"] = index
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    text = f"---\n{front}---\n\n{_body(facts)}"
    return f"{text}\n---\n\n{body.strip()}\n" if body.strip() else text


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Metadata and the rest of a README.

    Raises:
        DataError: the metadata is no YAML mapping.
    """
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        found = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise DataError(
            f"the metadata at the top of the README is no YAML ({str(error).splitlines()[0]})",
            hint="correct what stands between the two lines of `---`",
        ) from error
    if not isinstance(found, dict):
        return {}, text
    return {str(key): value for key, value in found.items()}, text[match.end() :]


def eval_results(facts: CardFacts) -> dict[str, str]:
    """Path -> contents of `.eval_results/*.yaml`, for results on sets that the hub has."""
    files = {}
    for entry in facts.evaluations:
        if entry.hub_set is None:
            continue
        repo, config = entry.hub_set
        row: dict[str, Any] = {
            "dataset": {"id": repo, "task_id": config or "default"},
            "value": entry.document["accuracy"],
        }
        if facts.repo_id is not None:
            row["source"] = {"url": facts.url_of(entry.path), "name": entry.path}
        low, high = entry.document["ci95"]
        row["notes"] = (
            f"{entry.document['split']} split, {entry.document['protocol']}, "
            f"95% interval {low:.4f} to {high:.4f}, from {entry.path} (sha256 {entry.sha256})"
        )
        name = f"{EVAL_RESULTS_FOLDER}/{entry.stem}.yaml"
        files[name] = yaml.safe_dump([row], sort_keys=False, allow_unicode=True)
    return files


def _metadata(facts: CardFacts) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "language": ["en"],
        "tags": ["aquachat", "nanochat", "math", "reasoning", "conversational"],
    }
    if facts.licence is not None:
        metadata = {"license": facts.licence, **metadata}
    if facts.needs_remote_code:
        metadata["tags"] = [*metadata["tags"], "custom_code"]
    if facts.datasets:
        metadata["datasets"] = list(facts.datasets)
    return metadata


def _model_index(facts: CardFacts) -> list[dict[str, Any]]:
    results = []
    for entry in facts.evaluations:
        document = entry.document
        task, split, protocol = document["task"], document["split"], document["protocol"]
        repo, config = entry.hub_set or (f"aquachat/{str(task).lower()}", None)
        dataset = {"name": f"{task} ({split})", "type": repo, "split": split}
        if config is not None:
            dataset["config"] = config
        low, high = document["ci95"]
        results.append(
            {
                "task": {"type": "text-generation", "name": f"{task}, {protocol}"},
                "dataset": dataset,
                "metrics": [
                    {
                        "type": "accuracy",
                        "value": document["accuracy"],
                        "name": f"accuracy, 95% interval {low:.4f} to {high:.4f}",
                        "verified": False,
                    }
                ],
                "source": {"name": entry.path, "url": facts.url_of(entry.path)},
            }
        )
    return [{"name": facts.name, "results": results}] if results else []


def _body(facts: CardFacts) -> str:
    record = facts.record
    model = record["model"]
    sections = [
        f"# {facts.name}",
        f"A language model of {record['num_parameters']:,} parameters that reasons about algebra "
        f"word problems, trained with aquachat {record['aquachat']}: checkpoint "
        f"`{record['checkpoint']}` of run `{record['run']}`.",
        f"Architecture `{model['arch']}`: depth {model['num_layers']}, width "
        f"{model['hidden_size']}, {model['num_heads']} heads ({model['num_kv_heads']} for keys and "
        f"values), {model['vocab_size']:,} tokens, context {model['max_seq_len']:,}. Weights in "
        f"{record['dtype']}.",
        "## Use",
        _usage(facts),
        "## Results",
        _results(facts),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


def _usage(facts: CardFacts) -> str:
    name = facts.repo_id or "PATH"
    trust = ", trust_remote_code=True" if facts.needs_remote_code else ""
    return f"""\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}"{trust})
model = AutoModelForCausalLM.from_pretrained("{name}"{trust})
question = [{{"role": "user", "content": "What is 12 times 7?"}}]
inputs = tokenizer.apply_chat_template(
    question, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=256)[0]))
```

The model asks for a calculator with `<|python_start|>60*3<|python_end|>`, and expects
`<|output_start|>180<|output_end|>` behind it; `aquachat import` and `aquachat chat` answer it."""


def _results(facts: CardFacts) -> str:
    if not facts.evaluations:
        return "This checkpoint was not evaluated."
    lines = [
        "| task | protocol | questions | accuracy | 95% interval | chance | best letter | file |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for entry in facts.evaluations:
        document = entry.document
        baselines = document.get("baselines") or {}
        low, high = document["ci95"]
        cells = [
            f"{document['task']} ({document['split']})",
            str(document["protocol"]),
            f"{document['num_scored']:,}",
            _percent(document["accuracy"]),
            f"{_percent(low)} to {_percent(high)}",
            _percent(baselines.get("chance")),
            _percent(baselines.get("majority_letter")),
            f"[{entry.stem}]({quote(entry.path)})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
