"""How large a prompt can be: what a budget has to set aside for it."""

import json
from collections.abc import Mapping, Sequence

from synth.records import composed

# What servers put around the texts. Chat templates take 4 to 8 tokens for each message (its role, its marks), and up to
# some 100 once: the model's own system prompt, the date, the start of the reply.
MESSAGE_TOKENS, REQUEST_TOKENS = 16, 256


def most_tokens(messages: Sequence[Mapping[str, str]], schema: Mapping[str, object] | None = None) -> int:
    """
    How many tokens a prompt can be at most, whatever the model: a bound, three to five times what it will be.

    A byte-level BPE (GPT, Llama 3, Qwen, DeepSeek, Mistral's Tekken) starts from one token for each byte of UTF-8 and
    only ever merges, and SentencePiece falls back to bytes: neither makes more tokens than a text has bytes. Some
    compose the text first (NFC), which lengthens a few rare characters: the longer form counts. The schema is counted
    twice over, since servers that put it into the prompt may indent it; the rest is what their templates add.
    """
    most = MESSAGE_TOKENS * len(messages) + REQUEST_TOKENS
    for message in messages:
        for text in message.values():
            most += _most_bytes(text)
    return most + 2 * len(json.dumps(schema)) if schema else most


def _most_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    num_bytes = len(text.encode(errors="surrogatepass"))
    nfc = composed(text)
    return num_bytes if nfc == text else max(num_bytes, len(nfc.encode(errors="surrogatepass")))
