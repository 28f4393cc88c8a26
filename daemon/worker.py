"""What a worker process is sent: a name for the recipes that costs the daemon no import of the reduction."""

from daemon.records import Job, Outcome

MODULE = "daemon.recipes"  # what a worker imports before its first job


def run(job: Job) -> Outcome:
    """Make the product of a job; see `daemon.recipes.run`."""
    from daemon import recipes  # noqa: PLC0415 - see the module

    return recipes.run(job)
