"""Which splits of a data set are held out, by their names, and which split a file's name says."""

import re
import unicodedata

from synth.records import Use

# A split is held out if a word of its name begins so: test, tests, devtest, validation_matched, held-out, dev1.
HELD_OUT_WORDS = ("test", "dev", "val", "eval", "holdout", "heldout")
HELD_OUT_CHINESE = ("测试", "验证", "评测")
# A file is named after what is in it: only whole words count there, so that testimonials.csv is no test split.
IN_FILE_NAMES = (
    r"(?:test|tests|testing|testset|dev|devtest|devset|val|valid|validation|eval|evaluation|(?:hold|held)[-_ ]?out)"
)
WORD = re.compile(rf"(?<![a-z]){IN_FILE_NAMES}(?![a-z])|{'|'.join(HELD_OUT_CHINESE)}")
SHARD = re.compile(r"-\d{1,5}-of-\d{1,5}(-[0-9a-f]{16})?")
# The name of a file that is one split of the set that its folder is named after, as the Hugging Face hub has them.
SPLIT_FILE = re.compile(
    rf"(?:train|training|训练集?|{IN_FILE_NAMES}|(?:{'|'.join(HELD_OUT_CHINESE)})集?)([-_. ]?v?\d{{1,8}})?"
)


def use_of_split(split: str) -> Use:
    """Held out if the split is called test, dev, validation or the like, however it is written; else to train on."""
    name = _folded(split)
    words = re.findall(r"[a-z]+", name)
    held_out = any(word.startswith(HELD_OUT_WORDS) for word in [*words, "".join(words)])
    return Use.EVAL if held_out or WORD.search(name) else Use.TRAIN


def split_of_file(stem: str) -> str | None:
    """The split that a file is, if its name (without suffixes) says nothing else: train, test_v2, holdout."""
    name = SHARD.sub("", _folded(stem))
    return name if SPLIT_FILE.fullmatch(name) else None


def held_out_word(stem: str) -> str | None:
    """The word by which the name of a file (without suffixes) says that it is held out: the `test` of nq-test."""
    found = WORD.search(_folded(stem))
    return found[0] if found else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
