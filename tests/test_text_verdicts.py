"""Verdicts on texts: by hand, on Python's own library, and on a real model that is cut away."""

import random
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resprout
from resprout.measure.text import Reference, TextOptions, measure_text
from resprout.measure.text.verdict import (
    COLLAPSED,
    FINE,
    REPETITIVE,
    Thresholds,
    judge,
    letters_share,
    of_all,
    piece_repetition,
    pieces,
    stutter_shares,
)

PROSE = (
    " the Amazon, which begins in the mountains of Peru and flows to the Atlantic. It carries "
    "more water than any other river, and in the rainy season it floods forests on both banks for "
    "many miles. Ships can sail on it as far as the city of Iquitos, deep inside the continent."
)
WEAK = (  # what a small base model says; odd, but English
    " the most important part of the country. The city is the largest city in the country, and it "
    "is the second largest city in the world. It has been a part of the history of the region, and "
    "the people of the town have lived in the area for more than two hundred years."
)
CODE = """    for word in text.lower().split():
        word = word.strip(".,;:!?")
        if not word:
            continue
        counts[word] = counts.get(word, 0) + 1
    return counts


def most_common(counts, n=10):
    items = sorted(counts.items(), key=lambda item: item[1], reverse=True)
    return items[:n]
"""
INITIALISER = """    def __init__(self, name, size, colour, weight):
        self.name = name
        self.size = size
        self.colour = colour
        self.weight = weight
        self.parent = None
        self.children = []
"""
TESTS = """    assert add(1, 2) == 3
    assert add(0, 0) == 0
    assert add(-1, 1) == 0
    assert add(10, 20) == 30
    assert add(2.5, 0.5) == 3.0
    with pytest.raises(TypeError):
        add("a", 1)
"""
LIST = """ Pour the boiling water into the pot.
3. Add one teaspoon of tea for each cup.
4. Let it stand for four minutes.
5. Pour the tea through a strainer into the cups.
6. Add milk, sugar or lemon as you like.
7. Serve it hot with biscuits.
"""
FORMULAS = " we have 3x = 15, so x = 5. Check: 3 * 5 + 5 = 15 + 5 = 20. If y = 2x + 1, then y = 11."
CHINESE = (
    "亚马逊河是世界上流量最大的河流。它发源于秘鲁的安第斯山脉。沿岸有大片的热带雨林和许多城镇。"
)

EFFECT = (
    " the effect of the drug on the effect of the effect of the effect of the drug on the patients "
    "in the effect of the treatment of the effect of the drug."
)
TOYS = (
    " He liked to play with his ball. He liked to play with his ball. He liked to play with his "
    "ball. He liked to play with his ball. One day, Tom saw a big box in the park. He was very "
    "happy and wanted to open it, but his mother said that it was time to go home."
)
VARIABLES = (
    "    $n = 0.0;\n" * 6
    + """\
    if ($value > $limit) { return false; }
    foreach ($items as $item) { $total += $item->price * $item->count; }
    $result = round($total, 2);
    echo "The total of all items is " . $result;
"""
)

SENTENCE = "The people of the town went to the big house on the hill by the old river road. "


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PROSE, False), (WEAK, False), (LIST, False), (FORMULAS, False), (CHINESE, False),
        (CODE, True), (INITIALISER, True), (TESTS, True), (" Neil Armstrong.", False),
        (" 5", False), (" Ha ha ha! said the clown, and everybody laughed with him.", False),
        (CHINESE + "\ufffd", False),
        (" the strength of twelfths, said the Welsh: lynx, myrrh and rhythm", False),
        ("    return best\n" + "-" * 40 + "\n" + CODE, True),
    ],
)  # fmt: skip
def test_good_text(text, code):
    assert judge(text, code).verdict == FINE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (EFFECT, False), (TOYS, False), (VARIABLES, True),
        ("the effect of the effect of the effect of the drug", False),
        (" effect of the effect of the effect of the effect of the effect of the effect", False),
        (" It was a big, shiny bird." * 3 + " It was a big, round one, and it sang.", False),
    ],
)  # fmt: skip
def test_repetitive_text(text, code):
    assert judge(text, code).verdict == REPETITIVE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("S.S.S.S.S.", False), ("S." * 60, False), ("with_k_k_k = 0;\n" * 8, True),
        (" = with_k_k_k = 0; with_k_k_k = 0; with_k_k_k = 0; with_k_k_k = 0;", True),
        ("_c" * 40, True), ("Fordn:\n" * 20, False), (" effect of the" * 30, False),
        ("", False), ("\n\n\n\n", False), ("....", False), (");});});} ]]> ;;; -- == (( ))", False),
        (" so" * 12 + " lo" + "l" * 80, False), ("kekekekekekekekekekekeke", False),
        (SENTENCE * 9, False), (SENTENCE * 9, True), ("的效果" * 40, False),
        (" <p></p>" * 20, False),
        (" xqzv plkjtr wmbvcx qqrtz hgfd klmnpr zxcvb tpsdk rrwq vbnmk gfdsp lkjhg", False),
        ("ent\ufffdb\ufffd\ufffd\ufffd\u2019entallo", False),
    ],
)  # fmt: skip
def test_collapsed_text(text, code):
    assert judge(text, code).verdict == COLLAPSED


def test_nonsense_in_good_words_is_seen_with_a_reference_only():
    salad = " purple of the ran democracy under however sing seldom table photon the blue seven."
    assert judge(salad).verdict == FINE
    assert judge(salad, perplexity_ratio=7.9).verdict == FINE
    found = judge(salad, perplexity_ratio=20.0)
    assert (found.verdict, found.why) == (
        COLLAPSED, "20 times the perplexity of the uncut subject's texts",
    )  # fmt: skip
    assert judge("", perplexity_ratio=0.5).why == "nothing written"
    assert judge("S." * 60, perplexity_ratio=0.1).verdict == COLLAPSED  # a loop is very probable
    assert judge(EFFECT, perplexity_ratio=0.1).verdict == REPETITIVE


def test_thresholds_are_the_callers():
    assert judge(EFFECT, thresholds=Thresholds(repetition_3=0.9)).verdict == FINE
    assert judge(PROSE, thresholds=Thresholds(repetition_3=0.0)).verdict == REPETITIVE


def test_a_long_text_is_judged_as_a_short_one():
    short = piece_repetition(PROSE, 120, 8)
    assert pieces("x_1 = Foo(2)") == ["x", "_", "1", "=", "foo", "(", "2", ")"]
    half = PROSE + SENTENCE * 9  # good at first
    assert short < 0.1 < piece_repetition(half, 120, 8)
    assert judge(half).verdict != FINE
    chapters = [PROSE, WEAK, LIST] * 10  # said again far away: no repetition that a reader sees
    assert judge(" ".join(chapters)).verdict == FINE


@given(st.text(st.characters(max_codepoint=400)))
def test_every_text_has_a_verdict(text):
    assert judge(text).verdict in (FINE, REPETITIVE, COLLAPSED)
    share = letters_share(text)
    assert share is None or 0 <= share <= 1
    stutter, stuck = stutter_shares(text)
    assert 0 <= stuck <= stutter <= 1


def test_what_a_level_has():
    good, bad, worst = FINE, REPETITIVE, COLLAPSED
    for expected, found in [
        (FINE, [good]),
        (FINE, [good] * 9 + [worst] * 3),
        (COLLAPSED, [good] * 8 + [worst] * 4),  # a third
        (REPETITIVE, [good] * 8 + [worst] * 3 + [bad]),  # worse ones counted in
        (COLLAPSED, [good, good, worst]),
        (FINE, [good, good, good, bad]),
        (REPETITIVE, [good, bad]),
    ]:
        assert of_all(found, 1 / 3) == expected


def stretches(text, length=400):
    return [text[at : at + length] for at in range(0, len(text) - length + 1, length)]


def test_pythons_own_library_is_fine():
    """What the thresholds were set on, drawn anew: hardly any of it is called bad."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(p for p in library.glob("*.py") if p.stat().st_size > 5000)
    code = [part for p in files for part in stretches(p.read_text("utf-8", errors="replace"))]
    chosen = random.Random(3).sample(code, 600)
    verdicts = [judge(part, code=True).verdict for part in chosen]
    assert verdicts.count(FINE) >= 0.98 * len(chosen)
    assert verdicts.count(COLLAPSED) <= 0.005 * len(chosen)
    import pydoc_data.topics

    paragraphs = [p for topic in pydoc_data.topics.topics.values() for p in topic.split("\n\n")]
    prose = [q for p in paragraphs if (letters_share(p) or 0) > 0.9 for q in stretches(p, 250)]
    chosen = random.Random(3).sample(prose, 300)
    verdicts = [judge(part).verdict for part in chosen]
    assert verdicts.count(FINE) >= 0.97 * len(chosen)


def test_a_real_model_cut_away(shared):
    folder = str(shared / "models" / "stories260K")
    model, tokenizer = resprout.load(folder)
    reference = Reference(model, tokenizer, "stories260K")
    prompts = {
        "writing": ["Once upon a time", "Tom had a big red ball."],
        "reasoning": "It was raining, so",
        "science": "The seed grew into",
        "instruction": '"Please help me," said the',
    }
    options = TextOptions(prompts)
    uncut = measure_text(model, tokenizer, options, reference)
    again = measure_text(model, tokenizer, options, reference, uncut)
    assert again.details["verdicts"]["all"] == FINE
    found = {}
    for amount in (0.2, 0.5, 0.8):
        cut, _ = resprout.load(folder)
        resprout.prune(cut, "magnitude", amount=amount)
        found[amount] = measure_text(cut, tokenizer, options, reference, uncut)
        alone = measure_text(cut, tokenizer, options)
        assert [s["text"] for s in alone.details["samples"]] == [
            s["text"] for s in found[amount].details["samples"]
        ]
        if amount == 0.8:  # nothing but loops: seen without a reference too
            assert alone.details["verdicts"]["all"] == COLLAPSED
    verdicts = {amount: m.details["verdicts"]["all"] for amount, m in found.items()}
    assert verdicts == {0.2: FINE, 0.5: COLLAPSED, 0.8: COLLAPSED}
    assert set(found[0.5].details["verdicts"]["categories"]) == set(prompts)
    assert found[0.5].figures["collapsed_share"].value > 0.8
    perplexities = [m.figures["reference_perplexity"].value for m in (uncut, *found.values())]
    assert perplexities == sorted(perplexities)
