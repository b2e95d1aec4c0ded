"""Plugins: Python files and installed packages that register methods, models and data sets of others.

A plugin is code and runs with all rights of the user. So one is loaded only where the user names its file, or has
installed its package; never from the working folder, a bundle or a data set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

from abs_core.canonical import sha256_bytes
from abs_core.errors import AbsError, UsageError
from abs_core.files import storage_errors
from abs_core.text import printable

__all__ = [
    "GROUP",
    "EntryKind",
    "Plugin",
    "PluginFile",
    "changed_plugins",
    "entry_source",
    "failure_text",
    "load_plugin_copies",
    "load_plugins",
    "loaded_plugins",
    "missing_plugins",
    "plugin_files",
    "plugin_notes",
    "plugin_of",
    "plugin_record",
    "record_entry",
]

#: The group of entry points that packages register plugins in.
GROUP = "abs_toolkit.plugins"


@dataclass(frozen=True)
class Plugin:
    """A plugin that was loaded.

    Args:
        name: its file without folders, or the name of its entry point.
        version: ``sha256:...`` of the file, or package and version.
    """

    name: str
    version: str


@dataclass(frozen=True)
class PluginFile:
    """A plugin's file, as it was loaded.

    Args:
        path: absolute, on the machine where it was loaded.
        version: ``sha256:...`` of it.
        source: its bytes.
    """

    path: str
    version: str
    source: bytes


_ENTRY_POINT = "entry point "

# characters of a name or version that come from a file
_SHOWN = 200

#: what plugins register
EntryKind: TypeAlias = Literal["method", "model", "data set"]

# what was loaded in this process: absolute path or name of the entry point -> plugin
_LOADED: dict[str, Plugin] = {}

# what plugins registered in this process: kind and name -> plugin
_PLUGINS_OF: dict[tuple[EntryKind, str], Plugin] = {}


@dataclass
class _Loading:
    """A plugin that is being loaded, and how to forget what it has registered."""

    plugin: Plugin
    undo: list[Callable[[], object]]


# the innermost last: a plugin may load another one
_LOADING: list[_Loading] = []


def record_entry(kind: EntryKind, name: str, remove: Callable[[], object]) -> None:
    """Remember that the plugin that is being loaded, if one is, registers a name.

    Args:
        kind, name: what it registers.
        remove: takes the name out of its registry, for a plugin that fails afterwards: mended, it is loaded again.
    """
    if _LOADING and (kind, name) not in _PLUGINS_OF:
        _PLUGINS_OF[kind, name] = _LOADING[-1].plugin
        _LOADING[-1].undo += [remove, lambda: _PLUGINS_OF.pop((kind, name), None)]


def plugin_of(kind: EntryKind, name: str) -> Plugin | None:
    """The plugin that registered a name; None where the toolkit did, or a program."""
    return _PLUGINS_OF.get((kind, name))


def entry_source(kind: EntryKind, name: str) -> str:
    """`` of the plugin own.py`` to say behind a name in a message, or nothing."""
    plugin = plugin_of(kind, name)
    return "" if plugin is None else f" of the plugin {plugin.name}"


def loaded_plugins() -> tuple[Plugin, ...]:
    """What was loaded in this process, in order."""
    return tuple(_LOADED.values())


def plugin_notes() -> list[str]:
    """What results say of the plugins that were loaded."""
    return [f"plugin {plugin.name}: {plugin.version}" for plugin in loaded_plugins()]


def plugin_record() -> dict[str, Any]:
    """``{"plugins": [...]}`` with what was loaded, as JSON values for files of results; empty where nothing was."""
    plugins = [asdict(plugin) for plugin in loaded_plugins()]
    return {"plugins": plugins} if plugins else {}


def changed_plugins(recorded: object) -> list[str]:
    """What to say where results are added to those of other plugins, or of other versions of them.

    Args:
        recorded: the list that ``plugin_record`` gave then, from a file: anything else says nothing.
    """
    now = {plugin.name: plugin.version for plugin in loaded_plugins()}
    notes = []
    for name, version in _recorded(recorded).items():
        if name not in now:
            notes.append(f"begun with the plugin {name} ({version}), which is not loaded now")
        elif now[name] != version:
            notes.append(f"begun with the plugin {name} of another version: {version}")
    return notes


def missing_plugins(recorded: object) -> list[str]:
    """The names of recorded plugins, as in ``changed_plugins``, that are not loaded."""
    names = {plugin.name for plugin in loaded_plugins()}
    return [name for name in _recorded(recorded) if name not in names]


def _recorded(values: object) -> dict[str, str]:
    entries = values if isinstance(values, list) else []
    return {
        printable(str(entry.get("name")), _SHOWN): printable(str(entry.get("version")), _SHOWN)
        for entry in entries
        if isinstance(entry, dict)
    }


def failure_text(kind: EntryKind, name: str, error: BaseException) -> str:
    """`` of the plugin own.py failed at line 3: ValueError: no`` to say behind a name whose code raised an error."""
    plugin = plugin_of(kind, name)
    path = next((Path(key) for key, known in _LOADED.items() if known == plugin and Path(key).is_absolute()), None)
    place = _place(error, path) if path is not None else ""
    return f"{entry_source(kind, name)} failed{place}: {type(error).__name__}: {error}"


def load_plugins(files: Iterable[Path | str] = ()) -> Sequence[Plugin]:
    """Load the plugins of installed packages, then these files; each once in a process.

    Args:
        files: Python files that call ``register``, ``register_model`` or ``register_dataset``.

    Raises:
        UsageError: a file is not there, changed since it was loaded, or a plugin fails; names its file and line.
    """
    _load_entry_points()
    for file in files:
        _load_file(Path(file))
    return loaded_plugins()


def plugin_files() -> list[PluginFile]:
    """The files that were loaded in this process, for processes on other machines.

    Raises:
        UsageError: one is gone, or changed since.
    """
    files = []
    for path, plugin in _LOADED.items():
        if path.startswith(_ENTRY_POINT):
            continue
        source = Path(path).read_bytes() if Path(path).is_file() else b""
        if sha256_bytes(source) != plugin.version:
            raise UsageError(f"the plugin {path!r} changed after it was loaded", remedy="Start Python anew")
        files.append(PluginFile(path, plugin.version, source))
    return files


def load_plugin_copies(files: Sequence[PluginFile], folder: Path) -> None:
    """Load the plugins of installed packages and what another process loaded.

    Args:
        files: what ``plugin_files`` gave there.
        folder: where files are written that are not at their path on this machine.

    Raises:
        UsageError: a plugin fails here, or was changed on its way.
    """
    _load_entry_points()
    for file in files:
        if sha256_bytes(file.source) != file.version:
            raise UsageError(f"the plugin {file.path!r} was changed on its way here", remedy="Run the command again")
        path = Path(file.path)
        if not path.is_file() or sha256_bytes(path.read_bytes()) != file.version:
            path = folder / path.name
            path.write_bytes(file.source)
        _load_file(path)


def _load_entry_points() -> None:
    # takes longer to import than the rest
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP):
        key = f"{_ENTRY_POINT}{entry.name} of {entry.value}"
        if key in _LOADED:
            continue
        package = entry.dist
        version = "" if package is None else f"{package.name} {package.version}"

        def start(load: Callable[[], object] = entry.load) -> None:
            loaded = load()
            if not isinstance(loaded, ModuleType) and callable(loaded):
                loaded()

        plugin = Plugin(entry.name, version)
        _run(start, plugin, f"{entry.name!r} of the package {version}", f"Mend or uninstall {version}")
        _LOADED[key] = plugin


def _load_file(path: Path) -> None:
    path = path.expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"the plugin {str(path)!r} is no file", remedy="Name a Python file, as in --plugin method.py")
    with storage_errors(path, "read"):
        source = path.read_bytes()
    plugin = Plugin(path.name, sha256_bytes(source))
    known = _LOADED.get(str(path))
    if known == plugin:
        return
    if known is not None:
        raise UsageError(f"the plugin {str(path)!r} changed after it was loaded", remedy="Start Python anew")
    # the same in every process that loads the same file, so that they can exchange instances of its classes
    module = ModuleType(f"abs_plugin_{plugin.version.removeprefix('sha256:')[:16]}_{path.stem}")
    module.__file__ = str(path)

    def start() -> None:
        # dataclasses and pickle look up the module of a class
        sys.modules[module.__name__] = module
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 - the user named the file to be run

    try:
        _run(start, plugin, repr(str(path)), "Mend the file", path)
    except UsageError:
        sys.modules.pop(module.__name__, None)
        raise
    _LOADED[str(path)] = plugin


def _run(start: Callable[[], None], plugin: Plugin, name: str, remedy: str, path: Path | None = None) -> None:
    """Run a plugin. Of one that fails nothing stays registered.

    Raises:
        UsageError: whatever it raises, with the line of it, in ``path`` if it got there.
    """
    loading = _Loading(plugin, [])
    _LOADING.append(loading)
    try:
        start()
    except BaseException as error:
        for undo in reversed(loading.undo):
            undo()
        if not isinstance(error, Exception | SystemExit):
            raise  # Ctrl-C
        where = _place(error, path)
        what = error.message if isinstance(error, AbsError) else f"{type(error).__name__}: {error}"
        if isinstance(error, AbsError) and error.remedy:
            remedy = error.remedy
        raise UsageError(f"the plugin {name} failed{where}: {what}", remedy=remedy) from error
    finally:
        _LOADING.remove(loading)


def _place(error: BaseException, path: Path | None) -> str:
    """The last line of the plugin that ran before an error; of a package the file as well."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" at line {error.lineno}" if error.filename == str(path) else f" at {error.filename}:{error.lineno}"
    lines, traceback = [], error.__traceback__
    while traceback is not None:
        lines.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    if path is not None:
        inside = [line for file, line in lines if file == str(path)]
        return f" at line {inside[-1]}" if inside else ""
    others = [(file, line) for file, line in lines if file != __file__]
    return f" at {others[-1][0]}:{others[-1][1]}" if others else ""
