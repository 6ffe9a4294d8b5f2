"""The verbs of namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kymograph.errors import InvalidInput
from kymograph.options import parse_duration, parse_size
from kymograph.store.base import StoreBase
from kymograph.store.namespaces import Namespaces

if TYPE_CHECKING:
    from kymograph.store.store import Store


class NamespaceVerbs(StoreBase):
    """Namespaces of a store; see `Store`."""

    def create_namespace(self, name: str, *, cap: Any = None, age: Any = None) -> Store:
        """Make a namespace and open it; one that is there with the same bounds is fine.

        A namespace is a store of its own, with the same names and nothing shared, in the folder of this one.

        Args:
            name: small letters, digits, `_` and `-`.
            cap: bytes that it may take, as size text or int, beside the cap of the whole folder, which counts it too.
            age: age after which its rows go, as duration text or int µs.

        Raises:
            InvalidInput: a name or bound that is none, or this is a namespace itself.
            AlreadyExists: it is there with other bounds.
        """
        bounds = {"cap": None if cap is None else parse_size(cap), "age": None if age is None else parse_duration(age)}
        self._check()
        return self._namespaces().create(name, bounds)

    def namespace(self, name: str) -> Store:
        """The store of a namespace that is there; it is closed with this one. Raises NotFound."""
        self._check()
        return self._namespaces().get(name)

    def namespaces(self) -> list[str]:
        """Names of the namespaces, sorted."""
        self._check()
        return [] if self._place is None else self._namespaces().names()

    def _namespaces(self) -> Namespaces:
        place = self._place
        if place is None:
            raise InvalidInput("a namespace has no namespaces inside it")
        return self._kept("namespaces", lambda: Namespaces(place, self._engine))
