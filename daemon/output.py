"""The output directory brought to what the catalog says: links, remains of jobs, and products whose files are gone."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from daemon import links
from daemon.catalog import Catalog
from daemon.executor import remove_half_written, remove_partial, remove_remains
from daemon.planning.fingerprint import directory_name
from daemon.records import Job
from daemon.watching.listing import is_gone

LAST = 1000  # products that a start looks after; older ones are missed when something is to be made with them


class Output:
    """The files of products, beside a catalog that this process writes.

    Parameters
    ----------
    catalog : Catalog
        What should be there.
    directory : Path
        Where it should be.
    batch : bool
        Products of any age are looked after.
    """

    def __init__(self, catalog: Catalog, directory: Path, *, batch: bool) -> None:
        self._catalog = catalog
        self._directory = directory
        self._last = None if batch else LAST
        self._cleared_at = -1  # the revision at which no job was left that nobody wants
        self._unlinked: list[tuple[str, bool]] = []  # products whose links may not lead where they should
        self.lost: set[str] = set()  # fingerprints of products whose files were found to be gone

    def recover(self) -> None:
        """Remove what a dead process has left half done; find the products whose files are gone."""
        for print_, night in self._catalog.open_jobs():
            self.remove(night, print_, whole=False)
        self.remove_pruned()
        remove_half_written(self._directory)
        made = self._catalog.last_made(self._last)
        self.lost = {print_ for print_, night in made if self._is_gone(directory_name(night, print_))}
        links.repair(self._directory, self._catalog.recent_products())

    @property
    def is_unmounted(self) -> bool:
        """Whether products seem lost since the directory, which the catalog does not lie in, is not mounted."""
        return bool(self.lost) and self._catalog.is_elsewhere and not any(self._directory.glob("????-??-??"))

    def remove(self, night: str, print_: str, *, whole: bool = True) -> None:
        """Remove what a job has left, `whole` products too, unless another daemon has it or has made it."""
        with self._catalog.unmade(print_) as unmade:
            if unmade and whole:
                self._unlink(directory_name(night, print_))
                remove_remains(self._directory, night, print_)
            elif unmade:
                remove_partial(self._directory, night, print_)

    def remove_pruned(self) -> None:
        """Remove the files of products that were pruned."""
        for print_, night in self._catalog.pruned():
            self.remove(night, print_)

    def forget_unwanted(self, wanted: Iterable[Job]) -> None:
        """Forget jobs that were given back and that are not wanted any more, with what they have left."""
        if self._catalog.revision == self._cleared_at:
            return
        prints = {job.fingerprint for job in wanted}
        for print_, night in self._catalog.open_jobs():
            if print_ not in prints:
                self.remove(night, print_)
                self._catalog.forget_open(print_)
        self._cleared_at = self._catalog.revision

    def misses(self, job: Job) -> bool:
        """Tell whether the files of a product that a job takes are gone; that product is then among the lost."""
        taken = job.calibrations.values()
        gone = {each.fingerprint for each in taken if any(map(self._is_gone, each.paths.values()))}
        self.lost |= gone
        return bool(gone)

    def changed(self, fingerprints: list[str]) -> None:
        """Note that links to the products of jobs are to be looked at."""
        self._unlinked += self._catalog.paths(fingerprints)

    def link(self) -> None:
        """Let the links lead to what is current; what fails is tried again the next time."""
        links.repair(self._directory, self._unlinked)
        self._unlinked.clear()

    def _unlink(self, place: str) -> None:
        """Remove the links to what lies in a directory of products."""
        with suppress(FileNotFoundError):
            for each in (self._directory / place).iterdir():
                links.unpoint(self._directory, f"{place}/{each.name}")

    def _is_gone(self, path: str) -> bool:
        """Tell whether a file is surely not where it was written; one that cannot be reached now may be."""
        return is_gone(self._directory / path)
