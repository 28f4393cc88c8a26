"""Imports point down only, and each outside dependency has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

KERNELS = None  # every module that no other layer names
KSPECDR = (  # from the ground up; a module may import its own layer and those before it
    {"errors", "arrays", "products", "options", "legacy"},
    KERNELS,
    {"io", "inst", "wavecal.arc_io", "wavecal.identify"},
    {
        *("preproc.reject", "preproc.make_im", "preproc.preproc", "tlm.make_tlm"),
        *(
            "extract.make_ex",
            "extract.arc_report",
            "extract.arc_group",
            "extract.reduce_arc",
            "extract.make_red",
            "wavecal.scrunch",
        ),
        *("reduce_object", "reduce_fflat", "make_throughput", "make_transfer", "coadd_spectra"),
    },
    {"simulate"},
    {"validate"},
)
DAEMON = (
    {"records", "rulebook", "naming", "sections", "config"},
    KERNELS,  # the catalog, the rules, the recipes and what they are made of
    {"watching", "watcher", "classify", "executor", "output", "cluster", "scheduler", "web"},
    {"service", "preconditions", "intake", "announcing", "turn_log"},
    {"cli", "commandline", "commands"},
)
DOORS = {  # outside package -> the only modules that may import it
    "astropy.io": ("kspecdr.io", "kspecdr.inst", "daemon.preview"),
    "distributed": ("daemon.cluster",),
    "sqlalchemy": ("daemon.catalog", "daemon.store"),
    "watchdog": ("daemon.watcher", "daemon.watching.observing"),
}


def modules(package):
    return sorted(path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py")


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path):
    """Return every module that a file imports, `from a import b` as both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(name, layers, package):
    inner = name.removeprefix(f"{package}.")
    for level, members in enumerate(layers):
        if any(inner == member or inner.startswith(f"{member}.") for member in members or ()):
            return level
    return layers.index(KERNELS)


@pytest.mark.parametrize(("package", "layers"), [("kspecdr", KSPECDR), ("daemon", DAEMON)])
def test_imports_point_down(package, layers):
    wrong = []
    for path in modules(package):
        own = layer_of(dotted(path), layers, package)
        inside = (other for other in imports(path) if other.startswith(f"{package}."))
        wrong += [f"{dotted(path)} imports {o}" for o in inside if layer_of(o, layers, package) > own]
    assert not wrong


def test_kspecdr_knows_nothing_of_the_daemon():
    wrong = [dotted(p) for p in modules("kspecdr") if any(name.split(".")[0] == "daemon" for name in imports(p))]
    assert not wrong


def test_kernels_know_numbers_only():
    wrong = []
    for path in modules("kspecdr"):
        if layer_of(dotted(path), KSPECDR, "kspecdr") != 1:
            continue
        tops = {name.split(".")[0] for name in imports(path)}
        wrong += [f"{dotted(path)} imports {top}" for top in tops & {"astropy", "logging", "pathlib", "os"}]
    assert not wrong


@pytest.mark.parametrize("outside", DOORS)
def test_each_dependency_has_one_door(outside):
    wrong = []
    for path in modules("kspecdr") + modules("daemon"):
        name = dotted(path)
        uses = any(other == outside or other.startswith(f"{outside}.") for other in imports(path))
        if uses and not any(name == door or name.startswith(f"{door}.") for door in DOORS[outside]):
            wrong.append(name)
    assert not wrong


def test_packages_re_export_nothing():
    found = [path for package in ("kspecdr", "daemon") for path in (ROOT / package).rglob("__init__.py")]
    wrong = [path for path in found if imports(path) and path.parent.name != "simulate"]
    assert not wrong
