"""Which splits of a data set are held out, by their names."""

import re
import unicodedata

from synth.records import Use

# A split is held out if a word of its name begins so: test, tests, devtest, validation_matched, held-out, dev1.
HELD_OUT_WORDS = ("test", "dev", "val", "eval", "holdout", "heldout")
HELD_OUT_CHINESE = ("测试", "验证", "评测")


def use_of_split(split: str) -> Use:
    """Held out if the split is called test, dev, validation or the like, however it is written; else to train on."""
    name = unicodedata.normalize("NFKC", split).casefold()
    words = re.findall(r"[a-z]+", name)
    held_out = any(word.startswith(HELD_OUT_WORDS) for word in [*words, "".join(words)])
    return Use.EVAL if held_out or any(word in name for word in HELD_OUT_CHINESE) else Use.TRAIN
