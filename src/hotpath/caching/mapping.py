"""A mapping whose views leave out an entry that goes between its key and its value, where others raise ``KeyError``."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MISSING: Any = object()


class ForgetfulMapping(MutableMapping[K, V], Generic[K, V]):
    """A mapping whose entries go by themselves: another thread needs their room, or their time is over."""

    def items(self) -> ItemsView[K, V]:
        """(key, value) of each entry, which counts as a use."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """The value of each entry, which counts as a use."""
        return _Values(self)


class _Items(ItemsView[K, V]):
    _mapping: ForgetfulMapping[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for key in self._mapping:
            value = self._mapping.get(key, _MISSING)
            if value is not _MISSING:
                yield key, value


class _Values(ValuesView[V]):
    _mapping: ForgetfulMapping[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping.items())
