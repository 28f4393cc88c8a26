"""Records as other programs read them: JSON of products, frames and reasons."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from daemon.explaining import HELD, Account
from daemon.records import Candidate, FrameInfo, Quality
from daemon.store.queries import Product, Summary


def product_table(product: Product) -> dict[str, Any]:
    """Return a product as programs read it."""
    return {
        "path": str(product.path),
        "kind": product.kind,
        "frame_class": product.frame_class,
        "lamp": product.lamp,
        "target": product.target,
        "raw": list(product.raw),
        "night": product.night,
        "obs_time": product.obs_time.isoformat(),
        "provisional": product.provisional,
        "reason": product.reason,
        "fingerprint": product.fingerprint,
        "quality": {"flag": product.flag, "figures": [_quality_table(each) for each in product.quality]},
    }


def frame_table(frame: FrameInfo) -> dict[str, Any]:
    """Return a frame as programs read it."""
    return {
        "path": frame.path,
        "part": frame.part,
        "frame_class": frame.frame_class,
        "lamp": frame.lamp,
        "target": frame.target,
        "exposure_s": frame.exposure_s,
        "obs_time": frame.obs_time.isoformat() if frame.obs_time else None,
        "night": frame.night,
        "setup": dict(frame.setup),
        "state": str(frame.state),
        "reason": frame.reason,
        "content_hash": frame.content_hash,
    }


def account_table(account: Account) -> dict[str, Any]:
    """Return why a frame stands where it does, as programs read it."""
    answer = account.answer
    return {
        **frame_table(answer.frame),
        "state": str(answer.state),
        "reason": answer.reason,
        "needs": list(answer.needs),
        "products": [product_table(product) for product in account.products],
        "found": [
            {**_candidate_table(each), **_calibration_table(account, calibration)}
            for each, calibration in account.found
        ],
        "rejected": [_candidate_table(each) for each in account.rejected],
    }


def without_holder(summary: Summary) -> Summary:
    """Return the catalog in numbers where no process works: what was begun is interrupted, nothing runs."""
    return replace(summary, frames=_interrupted(summary.frames), jobs=_interrupted(summary.jobs))


def status_table(summary: Summary, holder: str, faulty: Iterable[FrameInfo]) -> dict[str, Any]:
    """Return what there is as programs read it.

    holder : who reduces into the output directory; empty where nobody does
    """
    return {
        "running": holder,
        "frames": dict(summary.frames),
        "jobs": dict(summary.jobs),
        "products": dict(summary.products),
        "provisional": summary.provisional,
        "latency_s": {rule: {"p50": p50, "p95": p95} for rule, (p50, p95) in summary.latencies.items()},
        "stages_s": {stage: {"p50": p50, "p95": p95} for stage, (p50, p95) in summary.stages.items()},
        "faults": [{"frame": f.path, "state": str(f.state), "reason": f.reason} for f in faulty],
    }


def as_json(value: object) -> str:
    """Return JSON text that can be printed; every number in `value` is one that JSON has."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return "".join(letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    """Write a letter that a terminal might obey, or that no encoding has, as JSON's escape."""
    return json.dumps(letter)[1:-1]


def _interrupted(counts: Mapping[str, int]) -> dict[str, int]:
    begun = sum(counts.get(state, 0) for state in HELD)
    rest = {state: number for state, number in counts.items() if state not in HELD}
    return {**rest, "interrupted": begun} if begun else rest


def _calibration_table(account: Account, calibration: Product | None) -> dict[str, Any]:
    """Return where a calibration lies, how old it is for the frame, and how good."""
    age = None if calibration is None else account.age(calibration)
    return {
        "path": str(calibration.path) if calibration else None,
        "age_s": age.total_seconds() if age is not None else None,  # negative: taken before the frame
        "quality": calibration.flag if calibration else None,
    }


def _candidate_table(each: Candidate) -> dict[str, Any]:
    return {
        "rule": each.rule,
        "name": each.name,
        "fingerprint": each.fingerprint,
        "criterion": each.criterion,
    }


def _quality_table(each: Quality) -> dict[str, Any]:
    return {"name": each.name, "value": _finite(each.value), "limit": _finite(each.limit), "flag": each.flag}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
