"""
Units and numbers that several parts count in.

What a unit of text is, so that one bound serves every script: a character of Chinese, Japanese or Korean, or a word of
another script. Shared by those who cut documents and those who make queries of passages.
"""

import math
import re
from typing import Any

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
CJK_RUN = re.compile(f"[{CJK}]+")
WORD = re.compile(rf"[^\W\d_{CJK}][^\W{CJK}]*(?:[-.'’][^\W{CJK}]+)*")
UNIT = re.compile(rf"[{CJK}]|[^\W{CJK}]{{1,20}}")


def count_units(text: str) -> int:
    """
    The length of a text: characters of Chinese, Japanese and Korean plus words of other scripts.

    A word of more than 20 letters counts as several, so that no text is long and counts as short.
    """
    return sum(1 for _ in UNIT.finditer(text))


def finite(value: Any) -> Any:
    """A value with every float that JSON cannot write, at any depth, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, (list, tuple)) else value
