"""Questions to NVML that have an answer, have none, or reveal that the GPU or the driver is gone."""

from __future__ import annotations

from typing import Any

from kymograph.errors import MissingDependency, NotFound

# nvmlReturn_t, fixed in NVML's interface
UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED = 1, 3, 4, 9
LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, LOST, RESET_REQUIRED, MISMATCH, DEPRECATED = 12, 13, 15, 16, 18, 26

_NEVER = (NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, DEPRECATED)
_GONE = (UNINITIALIZED, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, MISMATCH)

# nvmlValueType_t to the member of nvmlValue_t that holds it
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Questions:
    """Asks one GPU. A question this GPU will never answer is not asked again: some take milliseconds.

    Attributes:
        answered: questions answered since this was last set to 0.
        failed: questions that failed in a way they should not, likewise.
    """

    def __init__(self, api: Any, handle: Any) -> None:
        self.api, self.handle = api, handle
        self.answered = self.failed = 0
        self._never: set[tuple[Any, ...]] = set()

    def ask(self, function: str, *arguments: Any) -> Any:
        """What `api.function(handle, *arguments)` returns, or None where there is no answer.

        Raises:
            NotFound: the GPU is lost.
            MissingDependency: the driver is.
        """
        call = getattr(self.api, function, None)
        question = (function, *(each for each in arguments if isinstance(each, int)))
        if call is None or question in self._never:
            return None
        try:
            answer = call(self.handle, *arguments)
        except self.api.NVMLError as problem:
            check_gone(problem)
            if problem.value in _NEVER:
                self._never.add(question)
            else:
                self.failed += 1
            return None
        except ValueError:
            # bytes where the bindings expect UTF-8
            self.failed += 1
            return None
        self.answered += 1
        return answer

    def fields(self, *ids: int) -> list[Any]:
        """Values of NVML fields, None each where there is none."""
        wanted = [field for field in ids if ("field", field) not in self._never]
        found: dict[int, Any] = {}
        for value in self.ask("nvmlDeviceGetFieldValues", wanted) or () if wanted else ():
            if value.nvmlReturn == 0:
                found[value.fieldId] = member(value.value, value.valueType)
            elif value.nvmlReturn in _NEVER:
                self._never.add(("field", value.fieldId))
            elif value.nvmlReturn == LOST:
                raise NotFound("the GPU is lost")
        return [found.get(field) for field in ids]


def check_gone(problem: Any) -> None:
    """Turn an NVML error into what it means for the GPU or the driver; return where it means neither."""
    if problem.value in (LOST, RESET_REQUIRED):
        raise NotFound(str(problem)) from None
    if problem.value in _GONE:
        raise MissingDependency(f"no working NVIDIA driver: {problem}") from None


def member(value: Any, kind: int) -> Any:
    """The number in an nvmlValue_t of the given nvmlValueType_t, None of an unknown type."""
    return getattr(value, _MEMBERS[kind]) if 0 <= kind < len(_MEMBERS) else None
