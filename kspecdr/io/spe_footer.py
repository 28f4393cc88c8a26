"""The XML footer of an SPE 3.0 file: where the pixels lie, when they were taken, and LightField's settings.

The footer comes from a file that may be damaged or hostile: it is parsed as a stream, bounded in size, depth
and entries, and a document type, with which entities would come, is refused.
Element and attribute names: Princeton Instruments, "SPE 3.0 File Format Specification" (2014), and the footer
of a LightField 5.3 file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from kspecdr.errors import BadFrame

FOOTER_LIMIT = 1 << 24  # bytes; a real one has some 40 kB
DEPTH_LIMIT = 64  # levels; a real one has 16
ENTRY_LIMIT = 10_000  # settings; a real one has some 250
TEXT_LIMIT = 1000  # characters of a setting that are kept
_DEVICES = ("SpeFormat", "DataHistories", "DataHistory", "Origin", "Experiment", "Devices")
_FRAME = ("SpeFormat", "DataFormat", "DataBlock")
_META = ("SpeFormat", "MetaFormat", "MetaBlock")

Attributes = Mapping[str, str]


@dataclass(frozen=True)
class Footer:
    """What the footer says, each value as the text that it is."""

    frame: Attributes  # the block of one frame: count, size, stride, pixelFormat
    regions: tuple[Attributes, ...]  # of a frame: width, height, size
    stamps: tuple[Attributes, ...]  # what follows the pixels of each frame: event, bitDepth, resolution ...
    mapping: Attributes  # the region on the sensor: x, y, xBinning, yBinning
    created: str  # when the acquisition began, with the offset from UTC
    settings: tuple[tuple[str, str], ...]  # "PI CAMERA ADC SPEED", "2"


@dataclass
class _Reader:
    """Collects what is needed while the parser walks through the elements."""

    path: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    blocks: dict[str, list[Attributes]] = field(default_factory=dict)
    settings: list[tuple[str, str]] = field(default_factory=list)
    devices: dict[str, int] = field(default_factory=dict)

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        self.path.append(name.rpartition(":")[2])
        self.text = []
        if len(self.path) > DEPTH_LIMIT:
            raise BadFrame(f"its footer nests elements {len(self.path)} deep, expected at most {DEPTH_LIMIT}")
        inside = tuple(self.path)
        if inside == _FRAME:
            self._keep("frame", attributes)
        elif inside[:-1] == _FRAME:
            self._keep("region", attributes)
        elif inside[:-1] == _META:
            self._keep("stamp", attributes)
        elif inside == ("SpeFormat", "Calibrations", "SensorMapping"):
            self._keep("mapping", attributes)
        elif inside == _DEVICES[:4]:
            self._keep("origin", attributes)
        elif inside[: len(_DEVICES)] == _DEVICES:
            self._device(inside[len(_DEVICES) :], attributes)

    def end(self, _: str) -> None:
        inside, text = tuple(self.path), "".join(self.text).strip()
        if text and inside[: len(_DEVICES)] == _DEVICES:
            self._set(inside[len(_DEVICES) :], text)
        self.path.pop()
        self.text = []

    def characters(self, text: str) -> None:
        self.text.append(text)

    def refuse(self, *_: Any) -> None:
        raise BadFrame("its footer declares a document type; LightField writes none")

    def _keep(self, kind: str, attributes: Attributes) -> None:
        kept = self.blocks.setdefault(kind, [])
        if len(kept) >= ENTRY_LIMIT:
            raise BadFrame(f"its footer has more than {ENTRY_LIMIT} blocks of kind {kind}")
        kept.append(attributes)

    def _device(self, inside: tuple[str, ...], attributes: Attributes) -> None:
        """Count the devices; keep the regions that were read, which only attributes tell."""
        if len(inside) == 2:
            self.devices[inside[1]] = self.devices.get(inside[1], 0) + 1
        elif inside[-3:] == ("RegionsOfInterest", "Result", "RegionOfInterest"):
            for name, value in attributes.items():
                self._set((*inside[:-1], name), value)

    def _set(self, inside: tuple[str, ...], value: str) -> None:
        """Keep a setting of the first camera or spectrometer under the keyword that a FITS card has."""
        if len(inside) < 3 or self.devices.get(inside[1]) != 1:
            return
        if len(self.settings) >= ENTRY_LIMIT:
            raise BadFrame(f"its footer has more than {ENTRY_LIMIT} settings")
        names = [re.sub(r"[^A-Z0-9_-]", "_", name.upper()) for name in inside[1:]]
        self.settings.append((" ".join(["PI", *names]), value[:TEXT_LIMIT]))


def read_footer(text: bytes) -> Footer:
    """Parse the footer of an SPE 3.0 file.

    Raises BadFrame for what is no XML, is beyond any footer that LightField writes, or describes no frame.
    """
    if len(text) > FOOTER_LIMIT:
        raise BadFrame(f"its footer has {len(text)} bytes, expected at most {FOOTER_LIMIT}")
    reader, parser = _Reader(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.begin, reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(text.rstrip(b"\0 \r\n\t"), True)
    except expat.ExpatError as error:
        raise BadFrame(f"its footer is no XML ({error}); write it again") from error
    found = reader.blocks
    if len(found.get("frame", ())) != 1:
        raise BadFrame(f"its footer describes {len(found.get('frame', ()))} kinds of frames, expected one")
    return Footer(
        found["frame"][0],
        tuple(found.get("region", ())),
        tuple(found.get("stamp", ())),
        next(iter(found.get("mapping", ())), {}),
        next(iter(found.get("origin", ())), {}).get("created", ""),
        tuple(reader.settings),
    )
