"""What file names say: the default classification rules, and the parts of a LightField name.

LightField names files `<base> <date> <time> <number>`, every part but the base optional, the month
in the language of the computer; observers put class, target, lamp, setting and exposure into the base.
"""

import re

_ELEMENTS = "hg|ar|ne|kr|cd|xe"
_END = r"(?![a-z])"
_LAMP = rf"(?P<lamp>(?:{_ELEMENTS}|he|zn|th)+){_END}"
_ARC_WORD = r"(?:arcs?|lamps?|comp|cal|wave(?:cal|length)?)"
_TARGET = r"[ _-]*(?P<target>.*)"

DEFAULT_CLASSES: tuple[dict[str, str], ...] = (
    {
        "class": "IGNORE",
        "name": r"-raw\.\w+$",
        "reason": "a -raw twin, the frame as it was before LightField's corrections",
    },
    {
        "class": "IGNORE",
        "name": rf"(?<![a-z])(?:focus\w*|test\w*|align\w*|junk|trash){_END}",
        "reason": "the name says that it is a focus or test exposure",
    },
    {
        "class": "IGNORE",
        "folder": r"(?:^|/)(?:focus|junk|trash)(?:/|$)",
        "reason": "in a folder of focus or test exposures",
    },
    {"class": "BIAS", "name": rf"^(?:bias(?:es)?|zero)(?:frame)?s?{_END}"},
    {"class": "DARK", "name": rf"^dark(?:frame)?s?{_END}"},
    {"class": "LFLAT", "name": rf"^(?:lflat|(?:long[ _-]?slit|detector|lamp)[ _-]?flat)s?{_END}"},
    {"class": "MFFLX", "name": rf"^(?:std|standard|flux|flx)s?{_END}{_TARGET}"},
    {
        "class": "MFSKY",
        "name": rf"^(?:(?:off(?:set)?[ _-]?)?sky|twilight|twi)(?:[ _-]?flat)?s?{_END}{_TARGET}",
    },
    {"class": "MFFFF", "name": rf"^(?:f(?:iber|ibre)?[ _-]?)?flat(?:[ _-]?field)?s?{_END}"},
    {"class": "MFARC", "name": rf"^{_ARC_WORD}[ _-]*{_LAMP}"},
    {"class": "MFARC", "name": rf"^{_ARC_WORD}{_END}"},
    {"class": "MFARC", "name": rf"^(?P<lamp>(?:{_ELEMENTS}){{2,}})(?=[ _.])"},
    {"class": "MFARC", "name": rf"^(?P<lamp>{_ELEMENTS})(?=\.|[ _]\d{{3}})"},
    {"class": "MFOBJECT", "name": r"^(?P<target>(?:tile|field|plate)[ _-]?\d.*)"},
    {"class": "MFOBJECT", "name": rf"^(?:obj(?:ect)?|sci(?:ence)?|target)s?{_END}{_TARGET}"},
    {"class": "BIAS", "folder": r"(?:^|/)(?:bias(?:es)?|zeros?)(?:/|$)"},
    {"class": "DARK", "folder": r"(?:^|/)darks?(?:/|$)"},
    {"class": "LFLAT", "folder": r"(?:^|/)lflats?(?:/|$)"},
    {"class": "MFFFF", "folder": r"(?:^|/)(?:f(?:iber|ibre)?[ _-]?)?flats?(?:/|$)"},
    {"class": "MFARC", "folder": r"(?:^|/)arcs?(?:/|$)"},
    {"class": "MFSKY", "folder": r"(?:^|/)(?:sky|twilight)(?:/|$)", "name": r"^(?P<target>.*)"},
    {"class": "MFFLX", "folder": r"(?:^|/)(?:standards?|flux)(?:/|$)", "name": r"^(?P<target>.*)"},
    {
        "class": "MFOBJECT",
        "folder": r"(?:^|/)(?:objects?|science|targets?)(?:/|$)",
        "name": r"^(?P<target>.*)",
    },
)

_SUFFIX = re.compile(r"(?:\.(?:fits|fit|fts|spe))?(?:\.(?:gz|fz))?$", re.IGNORECASE)
_DATE = re.compile(r"(?:(?:^|\s+)(?:19|20)\d\d(?=\D|$)|(?:^|[ _-]+)(?:19|20)\d\d-\d\d-\d\d).*$")
_COUNTER = re.compile(r"(?:[ _-]+\d{5,}|\s+\d+)$")
_ELEMENT = re.compile(rf"{_ELEMENTS}|he|zn|th", re.IGNORECASE)


def base_name(name: str) -> str:
    """Return a file name without suffix, date, time and number.

    >>> base_name("tile_046_150_620 2026 January 27 14_53_58 1.fits")
    'tile_046_150_620'
    >>> base_name("object_NGC_2023_00001.fits")
    'object_NGC_2023'
    """
    stem = _SUFFIX.sub("", name, count=1)
    undated = _DATE.sub("", stem)
    return _COUNTER.sub("", stem) if undated == stem else undated


def lamp_name(captured: str) -> str:
    """Write a lamp as its chemical symbols, `hgar` as `HgAr`; any other name stays as it is.

    >>> lamp_name("KRNEAR"), lamp_name("halogen")
    ('KrNeAr', 'halogen')
    """
    symbols = _ELEMENT.findall(captured)
    return "".join(each.capitalize() for each in symbols) if len("".join(symbols)) == len(captured) else captured
