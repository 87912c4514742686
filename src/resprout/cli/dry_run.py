"""What `resprout run --dry-run` prints."""

from resprout.study.dry_run import DryRun

_BASES = {"points": "finished points", "shapes": "shapes"}


def dry_run_lines(found: DryRun) -> list[str]:
    """Points with their state, what is made first, and the time and memory with their basis."""
    count = dict.fromkeys(("done", "failed", "missing"), 0)
    rows = []
    for planned in found.points:
        count[planned.state] += 1
        rows.append(
            (
                planned.point.id if planned.known else "-",
                planned.state,
                "" if planned.seconds is None else duration(planned.seconds),
                planned.point.label,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{identity:<{widths[0]}}  {state:<{widths[1]}}  {time:>{widths[2]}}  {label}"
        for identity, state, time, label in rows
    ]
    lines.append("")
    lines.append(
        f"{len(rows)} points in {found.folder}: {count['done']} done, {count['missing']} missing"
        + (f", {count['failed']} failed and tried again" if count["failed"] else "")
    )
    if found.unprepared:
        named = ", ".join(found.unprepared)
        lines.append(f"text not tokenised yet for {named}: points have no id before that")
    for making in found.makings:
        lines.append(
            f"first {making.kind} {making.subject}, seed {making.seed}: {making.tokens:,} tokens, "
            f"about {duration(making.seconds)} (from {_BASES[making.basis]})"
        )
    return lines + _total_lines(found)


def _total_lines(found: DryRun) -> list[str]:
    if found.peak_bytes is None:
        return ["nothing is missing"]
    left_out = f", without {' and '.join(found.left_out)}" if found.left_out else ""
    time, size = duration(found.seconds), f"{found.peak_bytes / 1e9:,.1f} GB"
    if found.workers == 1:
        lines = [
            f"time: about {time} one point after another{left_out}",
            f"memory: about {size} at the highest",
        ]
    else:
        lines = [
            f"time: about {time} with {found.workers} workers, each as fast as one alone{left_out}",
            f"memory: about {size} at the highest, of all workers together",
        ]
    bases = {p.basis for p in found.points if p.basis} | {m.basis for m in found.makings}
    if "points" in bases:
        lines.append("basis: what finished points of the same subject in this folder took")
    if "shapes" in bases:
        lines.append(f"basis: shapes of whole models on {found.speed}: right to a factor of three")
    return [*lines, "nothing was written or trained"]


def duration(seconds: float) -> str:
    """A time of that rough length: `40 s`, `12 min`, `3.5 h`, `9 days`."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"
