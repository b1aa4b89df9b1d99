"""Jinja filters that write values the way people read them."""

from datetime import UTC, datetime

from flask import Flask


def register(app: Flask) -> None:
    """Make the filters available in all templates."""
    app.jinja_env.filters.update(duration=duration, moment=moment, sentence=sentence, energy=energy)


def duration(seconds: float) -> str:
    """A length of time: 40 ms, 3.2 s, 75 s, 4 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def energy(joules: float) -> str:
    """Joules as watt-hours, to two digits."""
    watt_hours = joules / 3600
    return f"{watt_hours:.2g} Wh" if watt_hours < 10 else f"{watt_hours:,.0f} Wh"
