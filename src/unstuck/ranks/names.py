"""Names of sites that are the same on every rank: 64 bits of a hash of what tells a site from others.

Indices are given in the order of first execution, which may differ between ranks; paths of source files may too.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from pathlib import PurePath

from unstuck.trace import Kind, Site, Trace


class Names:
    """The names of a trace's sites, made as sites come up; `index` maps a name to a site's index."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._names: list[int] = []
        self._same: Counter[str] = Counter()
        self.index: dict[int, int] = {}

    def of(self, index: int) -> int:
        """Return the name of a site."""
        while len(self._names) <= index:
            self._add(self._trace.sites[len(self._names)])
        return self._names[index]

    def refresh(self) -> None:
        """Name all sites that there are."""
        if self._trace.sites:
            self.of(len(self._trace.sites) - 1)

    def _add(self, site: Site) -> None:
        text = _identity(site)
        self._same[text] += 1
        digest = blake2b(f"{text}|{self._same[text]}".encode(), digest_size=8).digest()
        name = int.from_bytes(digest, "little")
        self._names.append(name)
        self.index.setdefault(name, site.index)


def _identity(site: Site) -> str:
    if site.kind is Kind.PARAMETER:  # its owner and its line may become known later
        return f"{site.kind}|{site.path}|{site.variable}|{site.slot if not site.path else ''}"
    place = site.location
    line = "" if place is None else f"{PurePath(place.file).name}:{place.line}:{place.function}"
    return f"{site.kind}|{site.op}|{site.path}|{site.ordinal}|{line}"
