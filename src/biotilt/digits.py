"""Numbers as people read them, and as files keep them."""

from __future__ import annotations

import math

DIGITS = 4  # significant, wherever people read a number


def digits(value: float) -> str:
    """Return a number with four significant digits, whatever its size; whole below a million, else as a power of ten.

    Integers stay as they are. NaN and the infinities are "nan", "inf" and "-inf".

    >>> [digits(x) for x in (7.98, 0.5, 1e-8, 12345.6, -3.00004, 2.5e9, 0.0)]
    ['7.980', '0.5000', '1.000e-08', '12346', '-3.000', '2.500e+09', '0']
    """
    if isinstance(value, int):
        return str(value)
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    powers = f"{value:.{DIGITS - 1}e}"
    exponent = int(powers.partition("e")[2])  # after rounding: 9.9999 is 10.00
    return f"{value:.{max(0, DIGITS - 1 - exponent)}f}" if -5 < exponent < 6 else powers


def exact(value: float) -> str:
    """Return the shortest text that reads back as the same number of 64 bits, for files.

    >>> exact(0.1), exact(1e-8), exact(float("-inf")), exact(float("nan"))
    ('0.1', '1e-08', '-inf', 'nan')
    """
    return repr(float(value))


def number(text: str) -> float:
    """Return the number that a text holds, as other programs write it; "nan" and "-inf" are numbers, +inf is none.

    Raises ValueError for all else, also for what only Python takes for a number, or is larger than a float: "-1e400"
    must not become the mark of an infeasible design.

    >>> number(" -1e-8 "), number("-inf")
    (-1e-08, -inf)
    >>> number("1_000")
    Traceback (most recent call last):
    ValueError: "1_000" is no number
    """
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if value == math.inf or (value == -math.inf and "inf" not in text.lower()) or "_" in text or not text.isascii():
        raise ValueError(f'"{text[:80]}" is no number')
    return value


NOTHING = "–"


def pretty(value: float | None) -> str:
    """Return a number for prose and tables: `digits` with thousands separators and a true minus; a dash for none.

    >>> [pretty(x) for x in (-1234.56, 7.5, 1.234e-8, None, float("nan"), float("-inf"))]
    ['−1,235', '7.500', '1.234e−08', '–', '–', '−∞']
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = digits(float(value))
    if "e" not in text and len(text.lstrip("-").partition(".")[0]) > 3:
        text = f"{int(text):,}"  # beyond 999 no decimals are left
    return text.replace("-", "−")


def count(value: float | None) -> str:
    """Return a whole number with thousands separators, or a dash.

    >>> count(2048), count(None)
    ('2,048', '–')
    """
    return NOTHING if value is None or math.isnan(value) else f"{value:,.0f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them.

    >>> duration(7.25), duration(200), duration(7800)
    ('7.2 s', '3 min 20 s', '2 h 10 min')
    """
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def percent(part: float | None) -> str:
    """Return a fraction as a percentage that reads 0 or 100 only when it is exactly that.

    >>> percent(0.0), percent(0.0001), percent(0.9999), percent(0.25)
    ('0%', '<0.1%', '>99.9%', '25.0%')
    """
    if part is None:
        return NOTHING
    if part in (0, 1):
        return f"{part:.0%}"
    return "<0.1%" if 0 < part < 0.001 else ">99.9%" if 0.999 < part < 1 else f"{part:.1%}".replace("-", "−")
