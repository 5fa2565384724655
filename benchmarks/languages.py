"""
What the check of languages rejects wrongly and what it lets through, beside taking the model's first choice.

Example: python benchmarks/languages.py --quick

Right texts: the English and Chinese ones of --data; sentences in 39 languages from the translated messages of programs
under --messages, each with its language asked for, and as a reply to another sentence of its language. Wrong texts:
English where one of the others is asked for, those where English is, and neighbours where the other is. What was left
in English is left out as far as the originals tell. Ends with one line of JSON.
"""

import argparse
import json
import random
import re
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from synth.checks import num_words, scripts, wrong_language
from synth.languages import languages_of, named

HERE = Path(__file__).resolve().parent
SEED = 0
LENGTHS = {3: range(3, 5), 6: range(5, 9), 12: range(9, 17), 25: range(17, 41)}  # words
LOCALES = (
    "es pt it ca gl fr ro de nl da nb sv fi et lv lt pl cs sk sl hr sr bg ru uk hu tr vi id ms el he ar fa hi ko ja"
    " zh_CN zh_TW"
)
NAMES = {"nb": "norwegian", "zh_CN": "simplified chinese", "zh_TW": "traditional chinese"}
NEAR = "es/pt es/ca es/it da/sv nb/sv nb/da cs/sk hr/sl ru/uk bg/ru nl/de et/fi lt/lv ja/zh_CN zh_CN/zh_TW"
PLAIN = re.compile(r"[^%<>{}\\`\[\]|=~^_@/$*#\d\"\ufffd]{4,400}")  # no formats, options, paths

Figures = dict[str, float]
Cases = list[tuple[str, str, str]]  # a text, its seed, the language asked for: "" for the seed's


def main() -> None:
    """Print what is found as one line of JSON."""
    options = _options()
    figures = cost()
    for code, language in {"en": "english", "zh": "simplified chinese", "zht": "traditional chinese"}.items():
        figures |= shares(f"{code}_rejected", [(text, "", language) for text in texts_of(options.data, code)])
    sentences = sentences_of(options.messages)
    for length in LENGTHS if len(sentences) > 1 else ():
        for kind, cases in cases_of(sentences, length, 40 if options.quick else 300).items():
            figures |= shares(f"{kind}_{length}", cases)
    sys.stdout.write(json.dumps({key: round(value, 4) for key, value in figures.items()}) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 sentences of each language and length, not 300")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="where real texts are")
    parser.add_argument("--messages", type=Path, default=Path("/usr/share/locale"), help="where LOCALE/*/*.mo are")
    return parser.parse_args()


def cost() -> Figures:
    """Seconds until the first answer, and of 10,000 short texts."""
    started = time.perf_counter()
    languages_of("Who rows a skiff, and where?")
    loaded = time.perf_counter()
    for number in range(10_000):
        wrong_language(f"Who rows a skiff, and where, at {number} o'clock?", "", "English")
    return {"load_s": loaded - started, "s_per_10k": time.perf_counter() - loaded}


def texts_of(data: Path, code: str) -> list[str]:
    """Corpora, queries, pairs and labelled texts of --data."""
    paths = [*data.glob(f"[!d]*/*-{code}.jsonl"), *data.glob(f"[!d]*/*-{code}/*.jsonl")]
    rows = [json.loads(line) for path in sorted(paths) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row[field] for row in rows for field in ("text", "text1", "text2") if field in row]


def sentences_of(messages: Path) -> dict[str, list[str]]:
    """Sentences and short phrases by language, in an order that chance decides once."""
    found: dict[str, set[str]] = {"english": set()}
    for locale in LOCALES.split():
        for path in messages.glob(f"{locale}/*/*.mo"):
            for original, translated in _messages(path):
                found["english"] |= original
                found.setdefault(NAMES.get(locale) or named(locale), set()).update(translated)
    rng = random.Random(SEED)
    for name in found.keys() - {"english"}:
        found[name] -= found["english"]
    return {name: rng.sample(sorted(texts), len(texts)) for name, texts in found.items()}


def _messages(path: Path) -> Iterator[tuple[set[str], set[str]]]:
    """The sentences of each message of a catalogue (gettext's .mo, low byte first), and of its translation."""
    data = path.read_bytes()
    _, _, num, *tables = struct.unpack("<5I", data[:20])
    for place in range(num):
        spans = [struct.unpack_from("<2I", data, table + 8 * place) for table in tables]
        original, translated = (data[start : start + size].decode(errors="replace") for size, start in spans)
        if original:  # the first is a head of settings
            yield set(_sentences(original.split("\4")[-1])), set(_sentences(translated))


def _sentences(message: str) -> Iterator[str]:
    for text in re.split(r"(?<=[.!?])\s+|(?<=[。！？])|\n\s*\n|\0", message):
        if PLAIN.fullmatch(text := " ".join(text.split())) and len(scripts(text)) == 1:
            yield text


def cases_of(sentences: dict[str, list[str]], length: int, most: int) -> dict[str, Cases]:
    """Right and wrong cases with texts of one length."""
    rng = random.Random(SEED)
    seeds, texts = (
        {name: [text for text in each if num_words(text) in LENGTHS[size]][:most] for name, each in sentences.items()}
        for size in (12, length)
    )
    english = texts.pop("english")
    near = [[NAMES.get(each) or named(each) for each in pair.split("/")] for pair in NEAR.split()]
    right = [(text, name) for name, chosen in texts.items() for text in chosen]
    return {
        "rejected": [(text, "", name) for text, name in right],
        "replies_rejected": [(text, rng.choice(seeds[name]), "") for text, name in right],
        "english_passed": [(text, "", name) for name in texts for text in english[: most // 4]],
        "passed_as_english": [(text, "", "english") for text, _ in right],
        "near_passed": [(text, "", one) for pair in near for one, other in (pair, pair[::-1]) for text in texts[other]],
    }


def shares(name: str, cases: Cases) -> Figures:
    """Of how many cases the figure so named is, and what the check and the model's first choice make of them."""
    num = max(1, len(cases))
    checked = sum(bool(wrong_language(*case)) for case in cases) / num
    first = sum(_is_not_the_first_choice(*case) for case in cases) / num
    return {
        f"{name}_of": len(cases),
        name: 1 - checked if "passed" in name else checked,
        f"{name}_by_first_choice": 1 - first if "passed" in name else first,
    }


def _is_not_the_first_choice(text: str, seed: str, language: str) -> bool:
    """The scripts of Chinese are one here."""
    theirs, ours = [language] if language else languages_of(seed), languages_of(text)
    return bool(theirs and ours) and ours[0].split()[-1] != theirs[0].split()[-1]


if __name__ == "__main__":
    main()
