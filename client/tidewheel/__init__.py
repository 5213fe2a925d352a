"""The Python client of Tidewheel: `Client`, and `AsyncClient` with the same methods.

Nothing heavy is imported before it is used, so that the command starts at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidewheel.asynchronous import AsyncClient
    from tidewheel.client import Client
    from tidewheel.errors import Failure

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Failure", "__version__"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - see the docstring

    homes = {"AsyncClient": "asynchronous", "Client": "client", "Failure": "errors"}
    if name not in homes:
        raise AttributeError(f"module 'tidewheel' has no attribute {name!r}")
    return getattr(import_module(f"tidewheel.{homes[name]}"), name)
