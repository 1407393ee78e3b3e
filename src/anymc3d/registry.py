"""Tables of parts that others may add to: rows by :meth:`Registry.register`, and rows that installed packages offer.

A package offers a part by an entry point in the table's group, under the part's name. It is imported when it is asked
for that name and no row has it, never with this program. So a name that a file holds chooses among what is installed on
this machine, and never brings code.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from anymc3d.errors import PackageError, SettingError, UsageError, did_you_mean
from anymc3d.printable import shown

Part = TypeVar("Part")
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9._-]{0,99}")
_log = logging.getLogger(__name__)


class Registry(MutableMapping[str, Part], Generic[Part]):
    """A table by name; a plain assignment adds a row unchecked, :meth:`register` is the checked way.

    Args:
        kind: what a row is, for messages.
        rows: the program's own.
        group: of the entry points that offer more.
        admit: name and what was given -> the row.
    """

    def __init__(
        self,
        kind: str,
        rows: Mapping[str, Part],
        *,
        group: str,
        admit: Callable[[str, Any], Part] = lambda _, part: part,
    ) -> None:
        self.kind, self.group = kind, group
        self._rows, self._built_in, self._admit = dict(rows), frozenset(rows), admit
        self._providers: dict[str, str] = {}

    def register(self, name: str, part: Any) -> None:
        """Add a row.

        Raises:
            UsageError: the name is taken or none, or the part is not what a row must be.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{self.kind}: a name is at most 100 letters (a-z), digits, '.', '_' and '-', got {shown(repr(name))}"
            )
        if name in self:
            by = f" by the package {self.provider(name)}" if self.provider(name) else ""
            again = "" if name in self._built_in else "; where its code was changed, start Python again"
            raise UsageError(f"{self.kind} {name!r}: the name is taken{by}; choose another{again}")
        self._rows[name] = self._admit(name, part)

    def is_own(self, name: str) -> bool:
        """Whether a name is of nothing that this program has of itself."""
        return name not in self._built_in

    def provider(self, name: str) -> str:
        """The installed package, with its version, that offers a part; "" where there is none."""
        entry = self._offered().get(name)
        return self._providers.get(name) or ("" if entry is None else _package(entry))

    @property
    def own(self) -> tuple[str, ...]:
        """Rows that were registered, or imported from a package."""
        return tuple(name for name in self._rows if name not in self._built_in)

    @property
    def registered_here(self) -> tuple[str, ...]:
        """Own rows that came by :meth:`register`: another process does not have them."""
        return tuple(name for name in self.own if name not in self._providers)

    def how_to_add(self, function: str) -> str:
        """For a message that misses a part."""
        return f"{function} before, or install the package that offers it (entry points {self.group})"

    def check(self, name: str, *, key: str, function: str) -> None:
        """Whether there is a row of this name; ``key`` of the task file and ``function`` are for the message.

        Raises:
            SettingError: there is none.
        """
        if name not in self:
            how = self.how_to_add(function)
            raise SettingError(f"{key}: unknown name {name!r}{did_you_mean(name, self)}; an own one: {how}")

    def __getitem__(self, name: str) -> Part:
        if name not in self._rows:
            self._load(self._offered()[name])
        return self._rows[name]

    def __setitem__(self, name: str, part: Part) -> None:
        self._rows[name] = part

    def __delitem__(self, name: str) -> None:
        del self._rows[name]
        self._providers.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._rows or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        yield from self._rows
        yield from (name for name in self._offered() if name not in self._rows)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _offered(self) -> Mapping[str, EntryPoint]:
        return _offered(self.group, self._built_in)

    def _load(self, offer: EntryPoint) -> None:
        """Import what a package offers.

        Raises:
            PackageError: it cannot be imported.
            UsageError: it is not what a row must be.
        """
        try:
            part = offer.load()
        except Exception as error:  # whatever an installed package does
            raise PackageError(
                f"{self.kind} {offer.name!r}: the package {_package(offer)} that offers it cannot be imported "
                f"({type(error).__name__}: {shown(error)}); install it again, or take another"
            ) from error
        self._rows[offer.name] = self._admit(offer.name, part)
        self._providers[offer.name] = _package(offer)


@cache
def _offered(group: str, names_taken: frozenset[str]) -> Mapping[str, EntryPoint]:
    """Name -> what an installed package offers under it; nothing is imported."""
    offers: dict[str, EntryPoint] = {}
    for offer in entry_points(group=group):
        if offer.name in names_taken or offer.name in offers:
            _log.warning(
                "%s: %s of the package %s is left out, the name is taken", group, shown(offer.name), _package(offer)
            )
        elif _NAME.fullmatch(offer.name):
            offers[offer.name] = offer
    return offers


def _package(found: EntryPoint) -> str:
    return shown(found.value) if found.dist is None else shown(f"{found.dist.name} {found.dist.version}", 100)


def takes(part: object, *arguments: str) -> bool:
    """Whether a part can be called with these positional arguments, as far as its signature says."""
    if not callable(part):
        return False
    try:
        inspect.signature(part).bind(*arguments)
    except ValueError:
        return True  # written in C: it says nothing
    except TypeError:
        return False
    return True


def expected(kind: str, name: str, what: str, part: object) -> UsageError:
    """The error of a part that is not what a row must be."""
    try:
        got = f"{getattr(part, '__name__', type(part).__name__)}{inspect.signature(part)}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        got = f"{type(part).__name__}"
    return UsageError(f"{kind} {name!r}: expected {what}, got {shown(got)}")
