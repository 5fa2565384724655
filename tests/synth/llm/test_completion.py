"""What a server's answer is read as: a completion, or a fault of the right kind."""

import json
import sys
import unicodedata
from typing import Any

import pytest

from synth.llm.completion import Reader
from synth.llm.faults import Fault, Limits, Refused, Rejected, Transient, Unusable
from synth.llm.receipts import told
from tests.chat_server import completion

KEY = "sk-SECRETKEY-/0123456789"
USAGE = {"prompt_tokens": 30, "completion_tokens": 7}


def body(message: Any, finish_reason: Any = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish_reason}], "usage": USAGE}


def test_a_plain_reply_is_read_whole() -> None:
    content = json.dumps(completion("a text", model="m", usage=USAGE)).encode()
    found = Reader(KEY).read(content, 0.5, Limits(requests=9))
    assert (found.text, found.model, found.finish_reason) == ("a text", "m", "stop")
    assert (found.tokens_in, found.tokens_out, found.usage_known) == (30, 7, True)
    assert (found.seconds, found.limits) == (0.5, Limits(requests=9))
    assert Reader("").read(b"\xef\xbb\xbf" + content, 0.5).text == "a text"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "a"}, ("a", "stop")),
        ({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}, ("a b", "stop")),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]}, ("a", "stop")),
        ({"content": None}, ("", "stop")),
        ({"content": None, "refusal": "I cannot help with that"}, ("", "content_filter")),
        ({"content": "", "refusal": "no"}, ("", "content_filter")),
        ({"content": "a", "refusal": None}, ("a", "stop")),
    ],
)
def test_content_comes_as_text_as_parts_or_not_at_all(message: Any, expected: tuple[str, str]) -> None:
    found = Reader("").completion(body(message), 0.1)
    assert (found.text, found.finish_reason) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, (30, 7, True)),
        (None, (0, 0, False)),
        ({}, (0, 0, False)),
        ([1, 2], (0, 0, False)),
        ({"prompt_tokens": 30}, (30, 0, False)),
        ({"prompt_tokens": 0, "completion_tokens": 7}, (0, 7, False)),
        ({"prompt_tokens": 30, "completion_tokens": 0}, (30, 0, False)),  # for a text, it cannot be
        ({"prompt_tokens": -5, "completion_tokens": "7"}, (0, 0, False)),
        ({"prompt_tokens": 10**30, "completion_tokens": 2**63 - 1}, (0, 0, False)),
        ({"prompt_tokens": True, "completion_tokens": 7.0}, (0, 0, False)),
    ],
)
def test_tokens_are_known_only_where_both_counts_make_sense(usage: Any, expected: tuple[int, int, bool]) -> None:
    found = Reader("").completion(completion("text", usage=usage), 0.1)
    assert (found.tokens_in, found.tokens_out, found.usage_known) == expected


def test_a_reply_without_text_may_have_no_tokens() -> None:
    found = Reader("").completion(completion("", usage={"prompt_tokens": 3, "completion_tokens": 0}), 0.1)
    assert found.usage_known


@pytest.mark.parametrize(
    ("content", "cause", "paid"),
    [
        (b'{"choices": [{"message": {"content": "a', "cut body", True),
        (b"", "no JSON", True),
        (b"<html>a proxy speaks</html>", "no JSON", True),
        (b'"\xe9\xff"', "no JSON", True),
        (b'{"choices": "\xe9\xff"}', "cut body", True),
        (b"[" * 100_000, "no JSON", True),
        (b'{"error": {"message": "upstream failed", "code": 502}}', "no choices", False),
        (b'{"error": "upstream failed"}', "no choices", False),
        (b"{}", "no choices", True),
        (b"[]", "no choices", True),
        (b"null", "no choices", True),
        (b"7", "no choices", True),
        (b'{"choices": []}', "no choices", True),
        (b'{"choices": null}', "no choices", True),
        (b'{"choices": {}}', "no choices", True),
        (b'{"choices": ["a"]}', "no choices", True),
        (b'{"choices": [{"message": null}]}', "no choices", True),
        (b'{"choices": [{"message": {}}]}', "no choices", True),
        (b'{"choices": [{"message": {"content": 7}}]}', "no choices", True),
        (b'{"choices": [{"message": {"content": [7]}}]}', "no choices", True),
        (b'{"choices": [{"message": {"content": [{"type": "text", "text": 7}]}}]}', "no choices", True),
        (b'{"choices": [{"message": {"content": "a"}, "finish_reason": 7}]}', "no choices", True),
        (b'{"choices": [{"message": {"content": "a"}}], "model": {"a": 1}}', "no choices", True),
    ],
)
def test_what_is_no_completion_is_asked_again_and_counted_as_lost_where_it_may_be_paid(
    content: bytes, cause: str, paid: bool
) -> None:
    with pytest.raises(Transient) as caught:
        Reader(KEY).read(content, 0.1)
    assert (caught.value.cause, caught.value.paid) == (cause, paid)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("status", "error", "kind", "alone"),
    [
        (401, {"message": "no such key", "code": "invalid_api_key"}, Rejected, False),
        (402, {"message": "Insufficient Balance"}, Rejected, False),
        (403, {"message": "not for you"}, Rejected, False),
        (404, {"message": "no such model for this context length"}, Rejected, False),
        (400, {"message": "temperature is too high"}, Rejected, False),
        (422, {"message": "temperature is no number"}, Rejected, False),
        (302, {"message": "Moved"}, Rejected, False),
        (400, {"message": "This model's maximum context length is 8192 tokens"}, Rejected, True),
        (400, {"message": "too long", "code": "context_length_exceeded"}, Rejected, True),
        (400, {"message": "prompt of 9000", "type": "exceed_context_size_error"}, Rejected, True),
        (400, {"message": "filtered", "code": "content_filter"}, Rejected, True),
        (400, {"message": "filtered", "code": "content_policy_violation"}, Rejected, True),
        (403, {"message": "Your input was flagged"}, Rejected, True),
        (413, {"message": "Payload Too Large"}, Rejected, True),
        (429, {"message": "Request too large for gpt-x: Limit 30000, Requested 40000"}, Rejected, True),
        (408, {"message": "slow"}, Transient, None),
        (409, {"message": "locked"}, Transient, None),
        (425, {"message": "early"}, Transient, None),
        (500, {"message": "out of memory"}, Transient, None),
        (502, {"message": "bad gateway"}, Transient, None),
        (504, {"message": "gateway timeout"}, Transient, None),
        (101, {"message": "switch"}, Transient, None),
        (429, {"message": "slow down", "code": "rate_limit_exceeded"}, Refused, None),
        (503, {"message": "maximum context length of the queue"}, Refused, None),
        (529, {"message": "overloaded", "type": "overloaded_error"}, Refused, None),
    ],
)
def test_each_error_is_sorted_by_what_is_to_be_done_about_it(
    status: int, error: dict[str, str], kind: type[Fault], alone: bool | None
) -> None:
    fault = Reader("").fault(status, {"error": error}, reason="Found", seconds=1.5, limits=Limits(tokens=1))
    assert type(fault) is kind and fault.cause == str(status) and error["message"] in str(fault)
    if isinstance(fault, Rejected):
        assert (fault.status, fault.alone) == (status, alone)
    if isinstance(fault, Refused):
        assert (fault.seconds, fault.limits) == (1.5, Limits(tokens=1))
    if isinstance(fault, Transient):  # whoever stopped waiting for a reply does not know whether it was paid
        assert fault.paid == (status in (408, 502, 504))


@pytest.mark.parametrize(
    ("status", "error", "shown"),
    [
        (429, {"message": "pay up", "code": "insufficient_quota"}, 429),
        (429, {"message": "pay up", "type": "insufficient_quota"}, 429),
        (400, {"message": "limit", "code": "billing_hard_limit_reached"}, 402),
        (403, {"message": "limit", "code": "billing_not_active"}, 402),
        (400, {"message": "Your credit balance is too low to access the API"}, 402),
    ],
)
def test_an_account_without_credit_is_rejected_as_such_whatever_the_status(
    status: int, error: dict[str, str], shown: int
) -> None:
    fault = Reader("").fault(status, {"error": error})
    assert isinstance(fault, Rejected) and fault.status == shown and not fault.alone


# The words of Azure, OpenAI, OpenRouter, DeepSeek and DashScope; then those of servers that are sent too much.
@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (
            400,
            {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management"
                " policy. Please modify your prompt and retry.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            },
            "refused_content",
        ),
        (400, {"message": "The prompt triggers Azure OpenAI's content management policy"}, "refused_content"),
        (400, {"message": "Your request was rejected", "code": "content_policy_violation"}, "refused_content"),
        (400, {"message": "filtered", "type": "content_filter"}, "refused_content"),
        (
            400,
            {
                "message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
                "code": "invalid_prompt",
            },
            "refused_content",
        ),
        (
            403,
            {"message": "model requires moderation on Z. Your input was flagged for 'violence'", "code": 403},
            "refused_content",
        ),
        (400, {"message": "Content Exists Risk", "code": "invalid_request_error"}, "refused_content"),
        (400, {"message": "may be inappropriate", "code": "data_inspection_failed"}, "refused_content"),
        (400, {"message": "may be inappropriate", "code": "DataInspectionFailed"}, "refused_content"),
        (400, {"message": "too long", "code": "context_length_exceeded"}, "too_long"),
        (400, {"message": "This model's maximum context length is 8192 tokens", "code": 400}, "too_long"),
        (400, {"message": "the request exceeds the available context size", "code": 400}, "too_long"),
        (400, {"message": "9000 of 8192", "type": "exceed_context_size_error"}, "too_long"),
        (400, {"message": "litellm.ContextWindowExceededError: the context window is full"}, "too_long"),
        (400, {"message": "too many tokens: 9000"}, "too_long"),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, "too_long"),
        (400, {"message": "The input token count (1048577) exceeds the maximum"}, "too_long"),
        (400, {"message": "the prompt is longer than the maximum model length of 4096"}, "too_long"),
        (400, {"message": "string too long", "code": "string_above_max_length"}, "too_long"),
        (429, {"message": "Request too large for gpt-x: Limit 30000, Requested 40000"}, "too_long"),
        (413, {"message": "Payload Too Large"}, "too_long"),
        # the code is the server's own word; its message may repeat words of the text it was sent
        (400, {"message": "too long: 'how a content_filter works'", "code": "context_length_exceeded"}, "too_long"),
        (400, {"message": "filtered: 'the context window'", "code": "content_filter"}, "refused_content"),
        (400, {"message": "temperature is too high"}, "rejected"),
        (401, {"message": "no key for this content_filter"}, "rejected"),
    ],
)
def test_a_text_that_is_too_long_is_told_from_one_that_a_filter_refuses(
    status: int, error: dict[str, Any], kind: str
) -> None:
    fault = Reader("").fault(status, {"error": error})
    assert isinstance(fault, Rejected) and fault.alone == (kind != "rejected")
    found, said = told(fault, "small")
    assert found == kind and said.startswith(f"model small does not take this request ({status}): {error['message']}")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"error": {"message": "why"}}, "why"),
        ({"error": "why"}, "why"),
        ({"message": "why"}, "why"),
        ({"detail": "why"}, "why"),
        ([{"error": {"message": "why"}}], "why"),
        ({"detail": [{"loc": ["body"], "msg": "why"}]}, '{"detail": [{"loc": ["body"], "msg": "why"}]}'),
        ("<html>why</html>", "<html>why</html>"),
        ("", "Bad Request"),
        (None, "Bad Request"),
        ({}, "Bad Request"),
        ("400: why", "why"),
        (7, "7"),
    ],
)
def test_what_a_server_says_of_an_error_is_found_wherever_it_is(said: Any, expected: str) -> None:
    assert str(Reader("").fault(400, said, reason="Bad Request")) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"it is {KEY}.",
        '{"queries": ["what is sk-SECRET\\u004bEY-\\/0123456789?"]}',
        KEY.replace("/", "\\/"),
        KEY.replace("K", "\u212a"),  # the sign of kelvin, which normalising makes a K
        KEY.replace("K", "\\u212A"),
    ],
)
def test_a_text_that_contains_the_key_is_not_kept_and_its_tokens_count(text: str) -> None:
    with pytest.raises(Unusable, match="contains the key of the server") as caught:
        Reader(KEY).completion(completion(text, usage=USAGE), 0.1)
    assert (caught.value.tokens_in, caught.value.tokens_out) == (30, 7) and "0123456789" not in str(caught.value)


@pytest.mark.parametrize("key", ['sk-"quoted"-0123456789', "sk-\\back\\-0123456789"])
def test_a_key_with_characters_that_json_escapes_is_found_too(key: str) -> None:
    with pytest.raises(Unusable, match="contains the key"):
        Reader(key).completion(completion(json.dumps({"queries": [key]})), 0.1)


def test_no_other_character_than_those_looked_for_becomes_one_of_a_key() -> None:
    composed = {
        char
        for char in map(chr, range(0x80, sys.maxunicode + 1))
        if not 0xD800 <= ord(char) < 0xE000 and unicodedata.normalize("NFC", char).isascii()
    }
    assert composed == {"\u037e", "\u1fef", "\u212a"}
    for char in composed:
        key = f"sk-0123456789-{unicodedata.normalize('NFC', char)}-x"
        for text in (f"sk-0123456789-{char}-x", f"sk-0123456789-\\u{ord(char):04x}-x"):
            with pytest.raises(Unusable):
                Reader(key).completion(completion(text), 0.1)


def test_names_that_a_server_gives_are_cleaned_and_short() -> None:
    read = Reader(KEY).completion
    found = read(completion("text", f"x{KEY}", model=f"Bearer {KEY}"), 0.1)
    assert (found.model, found.finish_reason) == ("Bearer ***", "x***")
    found = read(completion("text", "\x1b[31m\nx\u202e", model="a\ud800b"), 0.1)
    assert (found.model, found.finish_reason) == ("a\ufffdb", "\ufffd[31m x\ufffd")
    assert read(completion("text", model="m" * 5_000_000), 0.1).model == "m" * 199 + "…"
    assert read(completion("text", model="Qwen/Qwen3-8B:free"), 0.1).model == "Qwen/Qwen3-8B:free"
    plain = "sk-plain0123456789"
    assert Reader(plain).completion(completion("text", model=f"m/{plain}"), 0.1).model == "m/***"


@pytest.mark.parametrize("key", ["a", "none", "EMPTY", "ollama"])
def test_a_dummy_key_changes_nothing(key: str) -> None:
    text = f"a text of {key} and none other"
    found = Reader(key).completion(completion(text, model=f"{key}-model"), 0.1)
    assert (found.text, found.model) == (text, f"{key}-model")


def test_a_key_too_short_to_be_real_is_masked_in_errors_and_left_in_texts() -> None:
    reader = Reader("internal")
    assert reader.completion(completion("an internal text"), 0.1).text == "an internal text"
    assert str(reader.fault(400, "key internal refused")) == "key *** refused"


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(Unusable, match="half a surrogate pair"):
        Reader("").read(json.dumps(completion("a \ud800 b")).encode(), 0.1)
    assert Reader("").read(json.dumps(completion("a 🐈 b")).encode(), 0.1).text == "a 🐈 b"


@pytest.mark.parametrize("depth", range(900, 1010, 2))
def test_a_body_nested_so_deep_that_it_can_only_just_be_read_is_a_fault_like_others(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    with pytest.raises(Transient):
        Reader("").read(f'{{"choices":[{{"message":{{"content":{nested}}}}}]}}'.encode(), 0.1)
    try:
        body = json.loads(nested)
    except RecursionError:
        body = nested
    assert isinstance(Reader("").fault(500, body), Transient)


def test_what_a_server_says_is_one_short_line_without_the_key() -> None:
    said = str(Reader(KEY).fault(400, {"error": {"message": f"{'no ' * 98}{KEY}\n\x1b{'no ' * 90_000}"}}))
    assert len(said) == 300 and said.isprintable() and "***" in said and "SECRET" not in said


def test_megabytes_of_combining_marks_are_said_in_time() -> None:
    fault = Reader(KEY).fault(400, "a" + "\u0315" * 700_000 + "\u0300" * 700_000)
    assert len(str(fault)) == 300 and str(fault).endswith("…")


def test_of_a_reply_that_is_cut_its_length_is_said_and_its_end() -> None:
    content = json.dumps(completion("a reply of some length " * 40 + "with\ta tab")).encode()
    cut = content[: content.index(b"tab")]
    with pytest.raises(Transient) as caught:
        Reader(KEY).read(cut, 0.1)
    said = str(caught.value)
    assert said.startswith(f"a reply whose JSON is cut or broken: {len(cut):,} bytes, which end in …")
    assert said.endswith(r"with\ta") and len(said) < 140
    with pytest.raises(Transient) as caught:
        Reader(KEY).read(b'{"choices":', 0.1)
    assert str(caught.value) == 'a reply whose JSON is cut or broken: 11 bytes, which end in {"choices":'


@pytest.mark.parametrize("shown", range(25))
@pytest.mark.parametrize("blank", [" ", "x"])
def test_a_key_is_not_shown_where_the_end_of_a_reply_begins_within_it(shown: int, blank: str) -> None:
    for read in (60, 480):  # what is shown, and what is read of it
        with pytest.raises(Transient) as caught:
            Reader(KEY).read(f'{{"a": "{KEY}{blank * (read - shown)}'.encode(), 0.1)
        said = str(caught.value).partition("which end in ")[2]
        assert "0123" not in said and "SECRET" not in said and len(said) <= 60


@pytest.mark.parametrize("length", range(4, len(KEY) + 1))
def test_a_key_in_which_a_reply_breaks_off_is_not_shown(length: int) -> None:
    with pytest.raises(Transient, match="which end in") as caught:
        Reader(KEY).read(f'{{"a": "{KEY[:length]}'.encode(), 0.1)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("shown", range(25))
def test_a_key_is_not_shown_where_what_is_read_of_an_error_ends_within_it(shown: int) -> None:
    blank = " " * (2400 - len("no") - shown)
    said = str(Reader(KEY).fault(400, f"no{blank}{KEY} is wrong"))
    assert "sk-" not in said and said in ("no …", "no…", "no ***…")
