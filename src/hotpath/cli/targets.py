"""TARGET, as uvicorn has it: ``module:attribute`` names a ``Hotpath`` object; a path names a store."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path

from hotpath.errors import HotpathError, TargetError
from hotpath.site import Hotpath
from hotpath.store.publish import Validator
from hotpath.store.store import Store

# The hot pages of a Django project, which has to be set up first.
_DJANGO = "hotpath.contrib.django"


def load(target: str) -> Hotpath:
    """The ``Hotpath`` object that ``module:attribute`` names; the working directory is importable.

    Raises ``TargetError`` that says where the import stopped and what to write.
    """
    site = _find(target)
    if not isinstance(site, Hotpath):
        module_name = target.partition(":")[0]
        names = _sites_in(module_name)
        hint = f"; write {module_name}:{names[0]}" if names else ""
        raise TargetError(target, f"this is a {type(site).__name__}, expected a Hotpath object{hint}")
    if site.target is None:
        site.target = target
    # Where no module has imported it there is no middleware.
    if (middleware := sys.modules.get("hotpath.asgi.middleware")) is not None:
        site.has_bypass = middleware.has_bypass(site)
    return site


def load_validator(target: str) -> Validator:
    """The function that ``module:attribute`` names, to be asked before a generation is published."""
    function = _find(target)
    if not callable(function):
        raise TargetError(target, f"this is a {type(function).__name__}, expected a function of two manifests")
    validator: Validator = function
    return validator


def _find(target: str) -> object:
    module_name, colon, attributes = target.partition(":")
    if not colon and Path(target).is_dir():
        raise TargetError(
            target, "this is a directory, expected module:attribute, the Hotpath object of your app: app:hot"
        )
    if not colon or not module_name or not attributes:
        raise TargetError(target, f"expected module:attribute; {_as_written(module_name, 'hot')}")
    if module_name != _as_module(module_name):
        raise TargetError(target, f"expected module:attribute; {_as_written(module_name, attributes)}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if module_name == _DJANGO:
        _set_up_django(target)
    try:
        value: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            parent = module_name.rpartition(".")[0]
            if parent in sys.modules and (names := _sites_in(parent)):
                raise TargetError(target, f"there is no module {error.name!r}; write {parent}:{names[0]}") from None
            there = _where_it_is(module_name)
            raise TargetError(target, f"there is no module {error.name!r} in {here} or on sys.path{there}") from None
        raise _import_failed(target, module_name, error) from error
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise _import_failed(target, module_name, error) from error
    for name in attributes.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            names = _sites_in(module_name)
            hint = f"; it has {module_name}:{names[0]}" if names else "; write hot = Hotpath(…) in it"
            raise TargetError(target, f"{module_name} has no attribute {name!r}{hint}") from None
        except Exception as error:  # one that is made when it is asked for: Django's, from settings that may be wrong
            raise TargetError(target, f"{error}") from error
    return value


def _where_it_is(module_name: str) -> str:
    """A hint at the folder to run the command in, where the file is one level away."""
    file = Path(*module_name.split(".")).with_suffix(".py")
    near = [folder for folder in (Path(".."), *sorted(Path().glob("*/"))) if (folder / file).is_file()]
    return f"; run the command in {near[0]}, which has {file}" if near else ""


def _as_written(name: str, attributes: str) -> str:
    """What to write for a path: ``./site/app.py`` is the module ``site.app``, and elsewhere ``app`` in its folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        return f"write {_as_module(path.name)}:{attributes}, in the directory {path.parent}"
    return f"write {_as_module(name) or 'myapp'}:{attributes}"


def _as_module(name: str) -> str:
    name = name.removesuffix(".py")
    return ".".join(Path(name).parts) if os.sep in name else name


def _set_up_django(target: str) -> None:
    try:
        importlib.import_module("django").setup()
    except Exception as error:  # no settings, an app that fails: Django says which
        raise TargetError(
            target, f"this needs a Django project; write 'python manage.py hotpath …' beside its manage.py ({error})"
        ) from error


def _sites_in(module_name: str) -> list[str]:
    return [name for name, value in vars(sys.modules[module_name]).items() if isinstance(value, Hotpath)]


def _import_failed(target: str, module_name: str, error: BaseException) -> TargetError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    # An error of ours is about the line that called us.
    theirs = [frame for frame in frames if not Path(frame.filename).is_relative_to(Path(__file__).parents[1])]
    where = f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else None
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    if isinstance(error, HotpathError):
        declared_at = getattr(error, "where", None)
        return TargetError(
            target, f"{error}" if declared_at or not where else f"{where}: {error}", where=declared_at or where
        )
    place = f" at {where}" if where else ""
    name = type(error).__name__
    # Django's, which need not be installed here.
    fix = "; write 'python manage.py hotpath …' beside manage.py" if name == "ImproperlyConfigured" else ""
    return TargetError(target, f"importing {module_name} failed{place}: {name}: {error}{fix}", where=where)


def load_store(target: str) -> Store:
    """The store of a TARGET, or the store at a path. Raises ``TargetError``."""
    site = load_site_or_store(target)
    return site.store if isinstance(site, Hotpath) else site


def load_site_or_store(target: str) -> Hotpath | Store:
    """What is declared, where TARGET names that; else the store at a path. Raises ``TargetError``."""
    if not target:
        raise TargetError(
            target, "it is empty: is a variable of the shell not set? Give TARGET, or the path of a store"
        )
    if ":" in target and not Path(target).exists():
        return load(target)
    path = Path(target)
    if not path.exists():
        raise TargetError(target, "there is no such directory; give module:attribute or the path of a store")
    if not path.is_dir():
        raise TargetError(target, "this is a file; a store is a directory")
    return Store(path)
