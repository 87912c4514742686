"""The five answers, from runs whose answers are known."""

import math

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from agency_records import WORKLOAD, curve, figure, subjects
from resprout.report.agency.gains import constrained, metrics
from resprout.report.agency.optimum import optimum
from resprout.report.agency.pairs import compare
from resprout.report.agency.resilience import resilience, rises
from resprout.report.agency.temperature import temperature
from resprout.report.agency.verdicts import Finding, Verdict, corrected, listed, p_words, signed
from resprout.report.series import series_of

STEEP, FLAT = (4.0, 4.3, 5.0), (4.0, 4.05, 4.4)


def comparison(records, **more):
    names = list(dict.fromkeys(r["subject"] for r in records))
    return compare(subjects(*names, **more), series_of(records))


def against(theirs, ours, **more):
    """The baseline bo and ada, who has agency."""
    return comparison(curve("bo", theirs, **more) + curve("ada", ours, **more))


def whole(answer):
    return " ".join([answer.short, *answer.details])


# 1. resilience


def test_the_mean_rise_is_that_of_the_monotone_curve():
    (pair,) = against(STEEP, FLAT, jitter=0).pairs
    ours, theirs, effect = rises(pair)
    for found, losses in ((ours, FLAT), (theirs, STEEP)):
        rise = PchipInterpolator((0, 0.2, 0.5), np.array(losses) - losses[0])
        assert found == pytest.approx(rise.integrate(0, 0.5) / 0.5)
    assert effect.value == pytest.approx(ours - theirs)
    # The windows' noise is shared and so cancels.
    assert (effect.low, effect.high) == pytest.approx((effect.value, effect.value), abs=1e-9)


def test_better_worse_and_alike():
    said = resilience(against(STEEP, FLAT))
    assert said.short == "Yes."
    assert "ada is the more resilient." in whole(said)
    assert "3 seeds" in whole(said)
    said = resilience(against(FLAT, STEEP))
    assert said.short == "No, the other way round."
    assert "The other way round: bo is the more resilient." in whole(said)
    said = resilience(against(FLAT, FLAT))
    assert said.short == "No: the two decline alike."
    assert "ada and bo decline alike" in whole(said)


def test_a_higher_loss_that_declines_no_faster_is_no_less_resilient():
    assert resilience(against(FLAT, tuple(x + 1 for x in FLAT))).short.startswith("No: the two")


def test_scattered_seeds_decide_nothing():
    said = resilience(against(STEEP, FLAT, jitter=0.5))
    assert said.short == "Not distinguishable."
    assert "95 % interval -" in whole(said)


def test_a_certain_difference_may_be_a_little_one():
    # Losses of many windows that rise alike but for 0.01.
    said = resilience(against((4.0, 4.0, 4.015), (4.0, 4.0, 4.0), jitter=1e-5))
    assert said.short == "Yes."
    assert "by less than 0.02 nat per token, which is little" in whole(said)


def test_one_seed_rests_on_windows():
    said = resilience(against(STEEP, FLAT, seeds=(0,)))
    assert said.short == "Yes."
    assert "1 seed, interval over held-out text" in whole(said)


def test_methods_are_answered_one_by_one_and_corrected_together():
    records = []
    for method, ours in (
        ("heads-random", FLAT),
        ("heads-magnitude", STEEP),
        ("heads-taylor", FLAT),
    ):
        records += curve("bo", STEEP if method != "heads-taylor" else FLAT, method=method)
        records += curve("ada", ours, method=method)
    said = resilience(comparison(records))
    expected = (
        "Yes with heads-random; no: the two decline alike with heads-magnitude and heads-taylor."
    )
    assert said.short == expected
    assert "after Holm's correction over 3 comparisons" in whole(said)


def test_what_does_not_survive_the_correction_is_said_so():
    from resprout.report.agency.contrasts import Effect

    def finding(name, p, low, high):
        return Finding(name, Effect((low + high) / 2, low, high, p, 3, "seeds"))

    found = corrected([finding("a", 0.04, 0.01, 0.9), finding("b", 0.9, -0.5, 0.6)])
    assert found[0].verdict is Verdict.BETTER
    assert found[0].holm_p == pytest.approx(0.08)
    assert found[0].after_holm is Verdict.OPEN
    sure = corrected([finding("a", 0.01, 0.1, 0.9), finding("b", 0.9, -0.5, 0.6)])
    assert sure[0].after_holm is Verdict.BETTER
    bare = Finding("c", Effect(1.0, None, None, None, 1, "nothing"))
    assert corrected([bare])[0] is bare
    assert bare.after_holm is Verdict.OPEN


@pytest.mark.parametrize("levels", [(0.0,), (0.2,), (0.2, 0.5)])
def test_without_the_uncut_and_a_cut_level_there_is_no_slope(levels):
    losses = FLAT[: len(levels)]
    said = resilience(against(losses, losses, levels=levels))
    assert said.short == "Cannot be told: nothing was compared."
    assert "a slope needs the uncut model and a cut level" in whole(said)


def test_other_tokens_are_not_compared():
    records = curve("bo", STEEP) + curve("ada", FLAT, tokens="other")
    found = comparison(records)
    for answer in (resilience(found), constrained(found, WORKLOAD), metrics(found, WORKLOAD)):
        assert "tokens differ" in whole(answer)


# 2. optimum


def test_the_largest_tolerated_level_and_the_fastest():
    faster = {"ratio": [1.0, 1.1, 1.3]}
    found = against(STEEP, FLAT, jitter=0, **faster)
    said = optimum(found, WORKLOAD)
    # ada's rise of 0.1 lies between 20 and 50 %, bo's before 20 %.
    where = []
    for losses in (STEEP, FLAT):
        rise = PchipInterpolator((0, 0.2, 0.5), np.array(losses) - losses[0])
        (root,) = [x for x in rise.solve(0.1) if 0 <= x <= 0.5]
        where.append(round(100 * root))
    assert f"nat per token of the uncut one up to {where[0]} % (95 %" in whole(said)
    assert f"up to {where[1]} % (95 % interval" in whole(said)
    assert "bo, heads-random: none, every level costs more than the limit" in said.short
    assert "ada, heads-random: 20 % (+10.0 % tokens/s)" in said.short
    # Faster still at 50 %, but that costs too much.
    assert "Tokens per second gain most at 50 %: +30.0 %" in whole(said)
    assert f"is {signed(where[1] - where[0], 0)} points" in whole(said)
    assert "ada holds farther" in whole(said)


def test_no_gain_in_speed_is_said():
    said = optimum(against(FLAT, FLAT, ratio=[1.0, 1.0, 1.0]), WORKLOAD)
    assert "no level within the limit is measurably faster" in said.short
    said = optimum(against(FLAT, FLAT, ratio=[1.0, 0.8, 0.7]), WORKLOAD)
    assert "slower than uncut, as is every other level" in whole(said)


def test_a_curve_that_never_leaves_the_limit():
    said = optimum(against((4.0, 4.0, 4.01), (4.0, 4.01, 4.02)), WORKLOAD)
    assert "50 %, the largest tried, or more" in whole(said)
    assert "ada and bo both hold to the largest level compared, 50 %" in whole(said)


def test_speed_without_ratios_is_that_of_the_two_points():
    records = curve("bo", FLAT) + curve("ada", FLAT, rate=[100.0, 120.0, 150.0])
    for record in records:
        figures = record["measures"]["speed"]["figures"]
        figures.pop(f"{WORKLOAD}/tokens_per_second/ratio", None)
    assert (
        "ada, heads-random: 20 % (+20.0 % tokens/s)" in optimum(comparison(records), WORKLOAD).short
    )


def test_speed_that_was_not_measured():
    said = optimum(against(FLAT, FLAT), None)
    assert "by the loss alone (speed has no figure)" in said.short
    assert "speed was not measured" in whole(said)


# 3. temperature


def test_temperature_moves_diversity_by_a_known_amount():
    cold = {"distinct": 0.5, "repetition": 0.2}
    records = curve("bo", FLAT, **cold) + curve("ada", FLAT, **cold)
    for record in records:
        more, by = (0.1, 1) if record["subject"] == "bo" else (0.2, 2)
        scatter = 0.001 * by * record["seed"]
        for key, value in (("distinct_2", 0.5 + more + scatter), ("repetition_3", 0.2 + scatter)):
            text = (
                record["measures"]
                .setdefault("text_at", {})
                .setdefault("1", {"temperature": 1.0, "samples": [], "figures": {}})
            )
            text["figures"][key] = figure(value)
            text[key] = value
    said = temperature(comparison(records), ["0.7", "1"])
    assert "Distinct-2 of the pruned models, 0.7 to 1: raises in both comparisons." in said.short
    assert "Repetition-3 of the pruned models, 0.7 to 1: leaves as it is" in said.short
    assert "more with heads-random (distinct-2)" in said.short
    assert "agency's effect less the baseline's: +10.1 points" in whole(said)
    assert "that effect less the uncut model's" in whole(said)


@pytest.mark.parametrize(("names", "got"), [(["0.7"], "temperature 0.7 alone"), ([], "no text")])
def test_one_temperature_answers_nothing(names, got):
    said = temperature(against(FLAT, FLAT), names)
    assert said.short == f"Cannot be told: the study measured {got}."


def test_a_temperature_that_failed_is_named():
    records = curve("bo", FLAT, warmer=(0.6, 0.1)) + curve("ada", FLAT, warmer=(0.6, 0.1))
    for record in records:
        if record["subject"] == "ada":
            record["measures"]["text_at"]["1"] = {"failed": "ValueError: too hot"}
    said = temperature(comparison(records), ["0.7", "1"])
    assert "too hot" in whole(said)
    assert "bo, heads-random, distinct-2" in whole(said)


# 4. resource constraints


def test_an_advantage_that_grows_shrinks_or_stays():
    grows = constrained(against((4.0, 4.3, 5.0), (4.0, 4.2, 4.5)), WORKLOAD)
    assert "By perplexity: yes, its advantage grows." in grows.short
    # At the top the losses differ by 0.5: 1 - exp(-0.5) better.
    assert f"{signed(100 * (1 - math.exp(-0.5)), 1)[:4]}" in whole(grows)
    shrinks = constrained(against((4.5, 4.5, 4.5), (4.0, 4.2, 4.5)), WORKLOAD)
    assert "By perplexity: the other way round, its advantage shrinks." in shrinks.short
    stays = constrained(against((4.5, 4.5, 4.9), (4.0, 4.0, 4.4)), WORKLOAD)
    assert "By perplexity: no, it stays as it is (within 2 %)." in stays.short


def test_a_faster_agency_under_constraints():
    rates = {"bo": [100.0, 100.0, 100.0], "ada": [100.0, 120.0, 150.0]}
    records = []
    for name, rate in rates.items():
        records += curve(name, FLAT, rate=rate)
    for i, record in enumerate(records):
        record["measures"]["speed"]["figures"][f"{WORKLOAD}/tokens_per_second"]["value"] += i % 3
    said = constrained(comparison(records), WORKLOAD)
    assert "By tokens per second: yes, its advantage grows." in said.short


def test_one_level_has_no_constraint():
    said = constrained(against((4.0,), (4.1,), levels=(0.2,)), WORKLOAD)
    assert "both have 20 % alone" in whole(said)


# 5. metrics


def test_the_metrics_are_ranked_and_judged():
    records = curve("bo", FLAT, distinct=0.5, repetition=0.2)
    records += curve("ada", (4.0, 4.05, 4.1), distinct=0.6, repetition=0.2)
    for record in records:
        for name in ("distinct_2", "repetition_3"):
            record["measures"]["text"]["figures"][name]["value"] += 0.002 * record["seed"]
    said = metrics(comparison(records), WORKLOAD)
    gain = 100 * np.mean([math.log((0.6 + x) / (0.5 + x)) for x in (0, 0.002, 0.004)])
    gain = 100 * (math.exp(gain / 100) - 1)
    assert said.short.startswith(
        "Can be told to be better, the largest gain first: perplexity (+25.9 %) and "
        f"diversity (distinct-2) (+{gain:.1f} %)."
    )
    assert "repetition (repetition-3) +0.0 %" in whole(said)


def test_several_methods_are_counted_by_metric():
    records = []
    for method, gain in (("heads-random", 0.3), ("heads-magnitude", 0.1), ("heads-taylor", 0.0)):
        records += curve("bo", FLAT, method=method)
        records += curve("ada", (4.0, 4.05, 4.4 - gain), method=method)
    said = metrics(comparison(records), WORKLOAD)
    assert "perplexity in 2 of 3 comparisons (+9.5 to +25.9 %)" in said.short


def test_no_metric_gains_and_one_loses():
    said = metrics(against((4.0, 4.05, 4.1), FLAT, jitter=1e-4), WORKLOAD)
    assert said.short.startswith("None: no quality metric can be told to be better")
    assert "can be told to be worse: perplexity (-3" in said.short


def test_missing_text_leaves_the_loss():
    records = curve("bo", STEEP) + curve("ada", FLAT)
    for record in records:
        del record["measures"]["text"]
    said = metrics(comparison(records), WORKLOAD)
    assert said.short == "Can be told to be better: perplexity (+45.1 %)."
    assert "not measured" in whole(said)


# in several


def test_gates_are_compared_with_the_baselines_taylor_and_said_so():
    records = curve("bo", STEEP, method="heads-taylor") + curve("ada", FLAT, method="heads-taylor")
    records += curve("ada", FLAT[1:], method="heads-gate", levels=(0.2, 0.5))
    found = comparison(records)
    assert [pair.label for pair in found.pairs] == [
        "heads-taylor",
        "heads-gate against heads-taylor",
    ]
    assert any("cut by different scores" in note for note in found.notes)
    # Its uncut point is the one by Taylor.
    assert found.pairs[1].levels == (0.0, 0.2, 0.5)
    assert any("no uncut point of its own" in note for note in found.notes)
    assert resilience(found).short == "Yes in both comparisons."


def test_each_subject_with_agency_has_its_answer():
    records = curve("bo", STEEP) + curve("ada", FLAT) + curve("eve", STEEP)
    said = resilience(comparison(records, agency=("ada", "eve")))
    assert (
        said.short
        == "Yes with ada, heads-random; no: the two decline alike with eve, heads-random."
    )


def test_words_of_figures():
    assert signed(-0.0004, 3) == "+0.000"
    assert signed(-0.5, 1) == "-0.5"
    assert signed(123456.0, 1) == "+1.2e+05"
    assert [p_words(p) for p in (0.0001, 0.02, 0.5)] == ["below 0.001", "0.020", "0.50"]
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
