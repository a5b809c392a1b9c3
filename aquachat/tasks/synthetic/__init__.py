"""Algebra word problems that are ours: endless, seeded, exact, in AQuA-RAT's form.

`generate_items` gives multiple-choice questions of 29 families, from one step to four, in a
training split and three held-out ones (`new_numbers`, `new_phrasings`, `more_steps`);
`generate_drills` exercises in finding options and in plain arithmetic; `generate_documents` prose
for base training. `families()` lists the families with the number of their phrasings.

Everything is a pure function of the seed and the index: the same bytes on every machine. The
problems themselves are data, in `families/*.toml` (notation in `kinds.py`); `distractors.py` says
why nothing but the mathematics tells the right option.
"""

from aquachat.tasks.synthetic.catalogue import families
from aquachat.tasks.synthetic.drills import generate_drills
from aquachat.tasks.synthetic.expository import generate_documents
from aquachat.tasks.synthetic.generate import SPLITS, Split, generate_items

__all__ = [
    "SPLITS",
    "Split",
    "families",
    "generate_documents",
    "generate_drills",
    "generate_items",
]
