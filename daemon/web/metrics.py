"""Figures for Prometheus, read from the catalog when they are asked for."""

import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from daemon.pulse import read_pulse
from daemon.records import FrameState
from daemon.store.pages import Done
from daemon.web.site import Site

BUCKETS = (0.2, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 900.0, 3600.0)  # s
JOB_STATES = ("open", "queued", "running", "done", "failed")


class Latencies:
    """Histograms by rule of the seconds from landing to the catalog; reads only what is new."""

    def __init__(self) -> None:
        self._revision = -1
        self._last = datetime.fromtimestamp(0, UTC)
        self._at_last: set[str] = set()  # jobs that ended at that very moment
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self.sums: dict[str, float] = defaultdict(float)

    def add(self, done: list[Done]) -> None:
        """Count jobs, each once: a row that changes later has ended before the last that is known."""
        for each in sorted(done, key=lambda job: job.finished):
            self._revision = max(self._revision, each.revision)
            if each.finished < self._last or each.fingerprint in self._at_last:
                continue
            if each.finished > self._last:
                self._last, self._at_last = each.finished, set()
            self._at_last.add(each.fingerprint)
            bucket = next((k for k, edge in enumerate(BUCKETS) if each.latency_s <= edge), len(BUCKETS))
            self.counts[each.rule][bucket] += 1
            self.sums[each.rule] += each.latency_s

    @property
    def revision(self) -> int:
        """Up to which change of the catalog everything is counted."""
        return self._revision


class CatalogCollector(Collector):
    """Collects from one output directory."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._latencies = Latencies()
        self._reading = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        reader, now = self._site.reader, datetime.now(UTC)
        frames, jobs = reader.frame_counts(), reader.job_counts()
        yield _by_state("kspecdr_frames", "Frames by state", {s: frames.get(s, 0) for s in FrameState})
        yield _by_state("kspecdr_jobs", "Jobs by state", {s: jobs.get(s, 0) for s in JOB_STATES})
        yield self._histograms()
        yield InfoMetricFamily("kspecdr_build", "The program", value={"version": version("kspecdr")})
        disk, pulse = shutil.disk_usage(self._site.out), read_pulse(self._site.out)
        yield _gauge("kspecdr_disk_free_bytes", "Free space for products", disk.free)
        yield _gauge("kspecdr_up", "1: the daemon ticks and sees its directories", not self._site.trouble(now))
        if pulse is not None:
            age = (now - pulse.time).total_seconds()
            yield _gauge("kspecdr_tick_age_seconds", "Since the daemon's last turn", age)
            yield _gauge("kspecdr_files_queued", "Files that are seen and not described yet", pulse.incoming)
        landed = reader.newest_landed()
        if landed is not None:
            since = (now - landed).total_seconds()
            yield _gauge("kspecdr_last_frame_age_seconds", "Since the last frame landed", since)

    def _histograms(self) -> HistogramMetricFamily:
        with self._reading:
            while done := self._site.reader.done_since(self._latencies.revision):
                self._latencies.add(done)
            family = HistogramMetricFamily(
                "kspecdr_latency_seconds", "From the last frame's landing to the catalog", labels=["rule"]
            )
            for rule, counts in sorted(self._latencies.counts.items()):
                family.add_metric([rule], _cumulative(counts), self._latencies.sums[rule])
            return family


def registry_of(site: Site) -> CollectorRegistry:
    """Return what `exposition` reads from."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CatalogCollector(site))
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """Return the figures in Prometheus's text format."""
    return generate_latest(registry)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    edges = (*(str(edge) for edge in BUCKETS), "+Inf")
    return [(edge, float(sum(counts[: k + 1]))) for k, edge in enumerate(edges)]


def _by_state(name: str, words: str, counts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=["state"])
    for state, count in counts.items():
        family.add_metric([str(state)], count)
    return family


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=float(value))
