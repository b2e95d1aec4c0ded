"""How a shell asks for what may stand at the cursor, and what it does with the answer.

Click's own scripts lose what this command line needs: bash splits a word at ":" and "=" and "@" before it asks, and
takes the answer for the part behind the last of them; fish cuts a value at a comma; and all put a space behind a value
that goes on, such as ``imagefolder:``. What can be proposed is said in ``completion_values``.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

__all__ = ["SHELLS", "VARIABLE", "register_shells"]

#: What the scripts set, for a run that answers instead of doing what the command says.
VARIABLE = "_ABS_COMPLETE"

# values that are not whole yet
_GOES_ON = ("/", ":", "=", "(", ",")

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            part) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a whole parts response
    local type key descr
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete %(prog_name)s 2> /dev/null)}")
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            part) parts+=("$key") ;;
            plain) whole+=("$key") ;;
        esac
    done
    (( $#parts )) && compadd -U -S '' -V unsorted -a parts
    (( $#whole )) && compadd -U -V unsorted -a whole
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l response (env COMP_WORDS=(commandline -cp | string collect) COMP_CWORD=(commandline -ct | string collect) \\
        %(complete_var)s=fish_complete %(prog_name)s 2> /dev/null)
    for completion in $response
        set -l metadata (string split -m 1 "," -- $completion)
        switch $metadata[1]
            case dir
                __fish_complete_directories $metadata[2]
            case file
                __fish_complete_path $metadata[2]
            case part plain
                echo $metadata[2]
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _AnyPlace(ShellComplete):
    """Options that all commands share are completed wherever they stand, as they are read."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """As click does it, which knows the options of one command alone."""
        root = click.Context(self.cli)
        shared = [param for param in self.cli.get_params(root) if isinstance(param, click.Option)]
        name, equals, value = incomplete.partition("=")
        last, part = (name, value) if equals and name.startswith("--") else (args[-1] if args else "", incomplete)
        option = next((param for param in shared if last in param.opts and not param.is_flag), None)
        if option is not None and "--" not in args:
            items = option.shell_complete(root, part)
        else:
            items = super().get_completions(args, incomplete)
        if part != incomplete:  # --option=value is one word for the shells
            return [CompletionItem(f"{name}={item.value}", type=item.type) for item in items]
        if option is None and incomplete.startswith("-") and "--" not in args:
            known = {item.value for item in items}
            names = [name for param in shared for name in param.opts if name.startswith("--")]
            own = ("--help", "--version")  # every command has the one, and some give the other a meaning of their own
            items += [
                CompletionItem(name) for name in names if name.startswith(incomplete) and name not in {*known, *own}
            ]
        return items


def _kind(item: CompletionItem[Any]) -> str:
    return "part" if item.type == "plain" and item.value.endswith(_GOES_ON) else item.type


class _Bash(_AnyPlace, BashComplete):
    source_template: ClassVar[str] = _BASH
    _replaced_from = 0

    @staticmethod
    def _check_version() -> None:
        """An older bash says by itself that it does not know an option of ``complete``."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words of the line, which bash would split at colons as well."""
        point = int(os.environ["COMP_POINT"])
        line = os.fsencode(os.environ["COMP_LINE"])[:point].decode(errors="replace")
        words = split_arg_string(line)
        if not words or (line != line.rstrip() and not _is_open(line)):
            words.append("")
        incomplete = words[-1]
        # bash replaces what follows the last of these, unless the word is in quotes
        breaks = "" if _is_open(line) else os.environ.get("COMP_WORDBREAKS", "")
        self._replaced_from = max((incomplete.rfind(mark) + 1 for mark in breaks if not mark.isspace()), default=0)
        return words[1:-1], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Kind and value; of the value what stands behind the part that bash keeps."""
        return f"{_kind(item)},{item.value[self._replaced_from :]}"


def _is_open(line: str) -> bool:
    """Whether the end of a line is within quotes."""
    quote, escaped = "", False
    for letter in line:
        if escaped:
            escaped = False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif letter == quote:
            quote = ""
        elif letter in "'\"" and not quote:
            quote = letter
    return bool(quote)


class _Zsh(_AnyPlace, ZshComplete):
    source_template: ClassVar[str] = _ZSH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Kind, value, and the place of a help text."""
        return f"{_kind(item)}\n{item.value}\n_"


class _Fish(_AnyPlace, FishComplete):
    source_template: ClassVar[str] = _FISH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Kind and value; fish itself puts no space behind a value that ends with "/", ":", "=" or ","."""
        return f"{_kind(item)},{item.value}"


SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def register_shells() -> None:
    """Let click answer these shells."""
    for name, shell in SHELLS.items():
        add_completion_class(shell, name)
