"""``llmops completion``: the script that teaches a shell to complete ``llmops`` commands."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

SUMMARY = "print the completion script of a shell"
_EPILOG = """put one of these into your shell's start-up file:
  eval "$(llmops completion bash)"       ~/.bashrc
  eval "$(llmops completion zsh)"        ~/.zshrc, after compinit
  llmops completion fish | source        ~/.config/fish/config.fish"""

# Each hands the line up to the cursor to `llmops _complete`, which prints one candidate a line.
SCRIPTS: Mapping[str, str] = {
    "bash": r"""_llmops_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" word IFS=$'\n'
    COMPREPLY=($("$1" _complete "$line" 2>/dev/null))
    word="${line##* }"
    # bash takes what follows the last = for the word, unless = is no word break here
    if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _llmops_complete llmops
""",
    "zsh": r"""_llmops_complete() {
    local -a found open
    found=("${(@f)$("${words[1]}" _complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    open=(${(M)found:#*[=.]})
    found=(${found:#*[=.]})
    compadd -Q -S '' -- $open
    compadd -Q -- $found
}
compdef _llmops_complete llmops
""",
    "fish": r"""complete -c llmops -f -a '(llmops _complete (commandline -cp) 2>/dev/null)'
""",
}


def main(argv: Sequence[str]) -> int:
    """Print the script."""
    parser = argparse.ArgumentParser(
        prog="llmops completion",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=sorted(SCRIPTS))
    print(SCRIPTS[parser.parse_args(argv).shell], end="")
    return 0
