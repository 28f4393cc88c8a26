"""What makes arithmetic come out alike in every process."""

import os


def one_thread() -> None:
    """Let linear algebra take one thread, in this process and those that it starts; numpy reads it when it is loaded.

    Several threads add up in another order, so that the last digits would depend on the machine and on who computes.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
