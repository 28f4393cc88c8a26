"""A frame as LightField itself keeps it: SPE 3.0, with the settings tree in its XML footer.

Layout: Princeton Instruments, "SPE 3.0 File Format Specification" (2014), and a file of LightField 5.3.
"""

import struct
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from kspecdr.arrays import Ints
from kspecdr.simulate.lightfield import Value

PREAMBLE = 4100  # bytes before the first pixel
_PIXELS = {"u2": (3, "MonochromeUnsigned16"), "u4": (8, "MonochromeUnsigned32"), "f4": (0, "MonochromeFloating32")}
_CAMERA = {  # end of the FITS keyword -> place in the tree, below the camera
    "SHUTTERTIMING EXPOSURETIME": "ShutterTiming/ExposureTime",
    "ADC SPEED": "Adc/Speed",
    "ADC ANALOGGAIN": "Adc/AnalogGain",
    "ADC QUALITY": "Adc/Quality",
    "SENSOR INFORMATION SENSORNAME": "Sensor/Information/SensorName",
    "SENSOR INFORMATION PIXEL WIDTH": "Sensor/Information/Pixel/Width",
    "SENSOR INFORMATION PIXEL HEIGHT": "Sensor/Information/Pixel/Height",
    "SENSOR TEMPERATURE READING": "Sensor/Temperature/Reading",
    "SENSOR TEMPERATURE SETPOINT": "Sensor/Temperature/SetPoint",
    "LIGHTPATHORIENTATIONUNCORRECTED": "Experiment/Acquisition/Orientation/LightPathOrientationUncorrected",
    "ACQUISITION ORIENTATION RESULT": "Experiment/Acquisition/Orientation/Result",
}
_SPECTROMETER = {
    "GRATING SELECTED": "Grating/Selected",
    "GRATING CENTERWAVELENGTH": "Grating/CenterWavelength",
    "CALIBRATIONINFORMATION FOCALLENGTH": "CalibrationInformation/FocalLength",
    "CALIBRATIONINFORMATION INCLUSIONANGLE": "CalibrationInformation/InclusionAngle",
    "CALIBRATIONINFORMATION DETECTORANGLE": "CalibrationInformation/DetectorAngle",
}


def write_spe(
    path: Path,
    cards: Mapping[str, Value],
    counts: Ints,
    *,
    stamps: Sequence[tuple[float, float]] | None = None,
    binning: tuple[int, int] = (1, 1),
) -> None:
    """Write a raw file; it appears under its name when it is complete.

    Parameters
    ----------
    path
        Where the file goes.
    cards
        The cards that a FITS file would have, from `lightfield_cards`; those that have a place in the settings
        tree go there, DATE-OBS says when the acquisition began.
    counts
        (n, n_row, n_column) uint16, uint32 or float32, in the orientation of the file
    stamps
        Start and end of each exposure, s after DATE-OBS; written as metadata behind each frame.
    binning
        Rows and columns that were binned into one.
    """
    kind, pixel_format = _PIXELS[counts.dtype.str[1:]]
    frames = counts.astype(counts.dtype.newbyteorder("<"))
    times = [struct.pack("<2q", *(round(moment * 1e6) for moment in pair)) for pair in stamps or ()]
    bodies = [frame.tobytes() for frame in frames]
    body = b"".join(pixels + stamp for pixels, stamp in zip(bodies, times or [b""] * len(bodies), strict=True))
    preamble = bytearray(PREAMBLE)
    struct.pack_into("<H", preamble, 42, counts.shape[2])
    struct.pack_into("<H", preamble, 656, counts.shape[1])
    struct.pack_into("<h", preamble, 108, kind)
    struct.pack_into("<Q", preamble, 678, PREAMBLE + len(body))
    struct.pack_into("<i", preamble, 1446, len(counts))
    struct.pack_into("<f", preamble, 1992, 3.0)
    text = _footer(cards, counts, pixel_format, binning, stamped=bool(times))
    growing = path.with_name(f".{path.name}.part")
    growing.write_bytes(bytes(preamble) + body + text.encode())
    growing.replace(path)


def _footer(
    cards: Mapping[str, Value], counts: Ints, pixel_format: str, binning: tuple[int, int], *, stamped: bool
) -> str:
    """Return the XML footer."""
    n_frame, rows, columns = counts.shape
    size, created = counts[0].nbytes, f"{cards['DATE-OBS']}.0000000+00:00"
    meta = f'<MetaFormat><MetaBlock id="4">{_stamps(created)}</MetaBlock></MetaFormat>' if stamped else ""
    region = {"width": columns, "height": rows, "size": size, "stride": size}
    block = {"count": n_frame, "pixelFormat": pixel_format, "size": size, "stride": size + 16 * stamped}
    binned = {"xBinning": binning[1], "yBinning": binning[0]}
    area = {"id": 0, "x": 0, "width": columns * binning[1], "y": 0, "height": rows * binning[0], **binned}
    result = f"<ReadoutControl><RegionsOfInterest><Result>{_empty('RegionOfInterest', area)}</Result>"
    camera = _tree(cards, _CAMERA) + result + "</RegionsOfInterest></ReadoutControl>"
    return (
        '<SpeFormat version="3.0" xmlns="http://www.princetoninstruments.com/spe/2009"><DataFormat>'
        f'<DataBlock type="Frame" {_attributes(block)}>{_empty("DataBlock", {"type": "Region", **region})}'
        f"</DataBlock></DataFormat>{meta}<Calibrations>{_empty('SensorMapping', area)}</Calibrations>"
        f'<DataHistories><DataHistory><Origin created="{escape(created)}" software="LightField"><Experiment><Devices>'
        f"<Cameras><Camera>{camera}</Camera></Cameras>"
        f"<Spectrometers><Spectrometer>{_tree(cards, _SPECTROMETER)}</Spectrometer></Spectrometers>"
        "</Devices></Experiment></Origin></DataHistory></DataHistories></SpeFormat>"
    )


def _stamps(created: str) -> str:
    common = {"type": "Int64", "bitDepth": 64, "resolution": 1_000_000, "absoluteTime": created}
    return "".join(_empty("TimeStamp", {"event": event, **common}) for event in ("ExposureStarted", "ExposureEnded"))


def _tree(cards: Mapping[str, Value], places: Mapping[str, str]) -> str:
    """Return the settings that have a place, each in elements of its own."""
    found = []
    for ending, place in places.items():
        for keyword, value in cards.items():
            if keyword == ending or keyword.endswith(f" {ending}"):
                names = place.split("/")
                opened, closed = (f"<{name}>" for name in names), (f"</{name}>" for name in reversed(names))
                found.append("".join(opened) + escape(str(value)) + "".join(closed))
    return "".join(found)


def _empty(name: str, attributes: Mapping[str, Any]) -> str:
    return f"<{name} {_attributes(attributes)} />"


def _attributes(attributes: Mapping[str, Any]) -> str:
    return " ".join(f'{name}="{escape(str(value))}"' for name, value in attributes.items())
