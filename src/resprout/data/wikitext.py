"""WikiText-2 as language models are compared on it: the test pages of the raw corpus, detokenised.

Merity et al. 2016 (arXiv 1609.07843) put spaces around punctuation and marked joined signs; models
read the text with these taken back, by the rules that the GPT-2 evaluations used and that lm-eval
keeps, while bytes and words are those of the page as it stands in the corpus. The figures made so
are lm-eval's `wikitext`.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from resprout.data.held_out import HeldOut, of_texts
from resprout.data.reachable import hub_or_cache
from resprout.hints import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME = "wikitext2"
HUB_DATA = ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1")
LOCAL_FILE = Path("wikitext") / "test.jsonl"

_SIGNS = (
    (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."),
    (" : ", ": "), (" ; ", "; "), (" . ", ". "), (" ! ", "! "), (" ? ", "? "), (" , ", ", "),
)  # fmt: skip
_ENCLOSED = (
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
)
_REST = (
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"),
    (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
)  # fmt: skip


def detokenise(page: str) -> str:
    """A page of the corpus as running text."""
    text = re.sub(r"/' [0-9]/", r"/'[0-9]/", page.replace("s '", "s'"))
    for marked, plain in _SIGNS:
        text = text.replace(marked, plain)
    for pattern, plain in _ENCLOSED:
        text = re.sub(pattern, plain, text)
    for marked, plain in _REST:
        text = text.replace(marked, plain)
    return text


def check_wikitext(task_data: Path | None) -> None:
    """Refuse local data without the file, before anything is read."""
    if task_data is not None and not (task_data / LOCAL_FILE).is_file():
        raise ValueError(f"task_data: there is no file {str(task_data / LOCAL_FILE)!r}")


def read_wikitext(
    tokenizer: "PreTrainedTokenizerBase | None", task_data: Path | None = None
) -> HeldOut:
    """The test split, page by page.

    Args:
        tokenizer: the subject's.
        task_data: a folder with `wikitext/test.jsonl`, a page per line under `page`; None = from
            the Hub.

    Raises:
        ValueError: not to be had; a line that is not such an object.
    """
    pages = _from_hub() if task_data is None else _from_file(task_data / LOCAL_FILE)
    texts = [detokenise(page) for page in pages]
    return of_texts(texts, tokenizer, NAME, originals=pages, definition=NAME)


def _from_hub() -> list[str]:
    from datasets import load_dataset  # type: ignore[import-untyped]

    try:
        with hub_or_cache(HUB_DATA[0]):
            return list(load_dataset(*HUB_DATA, split="test")["page"])
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        raise ValueError(
            f"data: {NAME!r} is not to be had from the Hub ({first_line(error)}); give task_data, "
            f"a folder with {LOCAL_FILE}"
        ) from error


def _from_file(path: Path) -> list[str]:
    check_wikitext(path.parents[1])
    pages = []
    try:
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start}: not UTF-8") from error
    for number, line in enumerate(lines, start=1):
        try:
            page = json.loads(line)["page"]
        except json.JSONDecodeError as error:
            where = f"line {number}, column {error.colno}"
            raise ValueError(f"{path}: {where}: not JSON ({error.msg})") from error
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number}: column 'page' is missing") from error
        if not isinstance(page, str):
            raise ValueError(f"{path}: line {number}: column 'page' is not text")
        pages.append(page)
    return pages
