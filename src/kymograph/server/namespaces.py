"""/ns/{name}/…: every face of the server over a namespace of the store, and /api/namespaces, which lists and makes them.

The prefix is taken off before the guard looks at the path, so that roles and limits are those of the path behind it; the
guard, its pools and its counts are the same for all namespaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from kymograph.server.asgi import App, Receive, Scope, Send
from kymograph.server.routes.answers import json_answer
from kymograph.server.slot import StoreSlot
from kymograph.server.state import ServerState
from kymograph.store.namespaces import check_namespace
from kymograph.store.store import Store

PREFIX = "/ns/"
_KEY = "kymograph.namespace"


class NamespaceDoor:
    """Outermost ASGI layer: takes `/ns/{name}` off the path and notes the name in the scope."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["path"].startswith(PREFIX):
            name, slash, rest = scope["path"][len(PREFIX) :].partition("/")
            if slash:
                scope = {**scope, "path": f"/{rest}", _KEY: name}
        await self._app(scope, receive, send)


class NamespaceHall:
    """Innermost ASGI layer: hands a request to the application of its namespace.

    Args:
        make: the application over the state of a namespace, without guard.
    """

    def __init__(self, app: App, *, state: ServerState, make: Callable[[ServerState], App]) -> None:
        self._app = app
        self._state = state
        self._make = make
        self._apps: dict[str, App] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope.get(_KEY)
        app = self._app if name is None else await self._of(name)
        await app(scope, receive, send)

    async def _of(self, name: str) -> App:
        found = self._apps.get(name)
        if found is None:
            # a namespace is only ever made by create_namespace: a name that is none cannot fill this
            await self._state.light.run(lambda: self._state.slot.get().namespace(name))
            found = self._apps.setdefault(name, self._make(self._state.within(NamespaceSlot(self._state.slot, name))))
        return found


class NamespaceSlot(StoreSlot):
    """The store of a namespace, for as long as the store it is in is open."""

    def __init__(self, slot: StoreSlot, name: str) -> None:
        super().__init__(f"{slot.path} ({name})", slot.options)
        self._outer = slot
        self._name = name

    def get(self) -> Store:
        return self._outer.get().namespace(self._name)

    @property
    def reason(self) -> str:
        return self._outer.reason

    def count(self, rows: int) -> None:
        self._outer.count(rows)


class NamespaceRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=63)
    cap: str | int | None = Field(None, description="bytes it may take, such as 100MB")
    age: str | None = Field(None, description="age after which its rows go, such as 30d")


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/namespaces", tags=["store"])

    @routes.get("", summary="Namespaces of the store; each is served below /ns/{name}/")
    async def listed() -> Response:
        return json_answer(await state.light.run(lambda: {"namespaces": state.slot.get().namespaces()}))

    @routes.post("", summary="Make a namespace", status_code=201)
    async def create(asked: NamespaceRequest) -> Response:
        def make() -> dict[str, Any]:
            name = check_namespace(asked.name)
            made = state.slot.get().create_namespace(name, cap=asked.cap, age=asked.age)
            return {"name": name, "cap_bytes": made.options.cap, "age_us": made.options.age}

        return json_answer(await state.light.run(make), 201)

    return routes
