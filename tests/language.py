"""The check of the project's language: plain technical English in code, docs and the texts that users see.

`python -m tests.language` prints each finding as `PATH:LINE: TEXT`, and fails if there is one. ruff's D401 is the other
half of the check: the docstring of a function opens with a verb.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_SENTENCE = 30  # words; 25 is the aim
PYTHON = {".py", ".pyi", ".pyx", ".pxd"}
TEXTS = PYTHON | {".md", ".toml", ".html", ".js", ".jsx", ".css", ".yml", ".yaml", ".json", ".sh", ".tmpl", ""}
FOREIGN = ("tests/dashboards/package-lock.json", "LICENSE", "docker/requirements.txt", "tests/clients/recorded")
OWN = ("tests/language.py", "tests/unit/test_language.py")  # they name the words
BANNED = {
    "anew": "again, or a new one",
    "likewise": "also, or the same",
    "alike": "the same, or both",
    "as far as": "if, or up to",
    "goes by": "uses, or follows",
    "go by": "use, or follow",
    "to be had": "available",
    "stands in": "is in",
    "stand in": "are in",
    "beside": "in addition to, or next to",
    "besides": "in addition to",
    "what is no": "an invalid ...",
    "that is no": "an invalid ...",
    "for ever": "permanently, or it can't be undone",
}
_GAP = r"[\s#/*]+"  # between words, a line of a comment may end
_BANNED = {re.compile(rf"\b{_GAP.join(text.split())}\b", re.IGNORECASE): text for text in BANNED}
_RIDDLE = re.compile(r"(What|Which|Whether|Who|Whose)\b")
_NO_VERB = re.compile(
    "A|All|An|As|At|Between|Both|Ctrl-C|Each|Every|For|From|How|If|In|It|JSON|Measurement|Nothing|Numbers|One|Rule|Seconds|"
    "Shares|That|The|There|These|This|Those|URLs|When|Where|Whole|Why|With|[^A-Z].*"
)
_VERBS_IN_ED = {"bed", "embed", "exceed", "feed", "need", "proceed", "seed", "shed", "speed", "succeed"}
_IRREGULAR = re.compile(
    "been|begun|bought|bound|broken|brought|built|caught|chosen|dealt|done|drawn|driven|fallen|felt|forgotten|found|"
    "given|gone|grown|heard|held|hidden|kept|known|laid|led|left|lent|lost|made|meant|met|paid|risen|said|seen|sent|"
    "shown|spent|spoken|stood|struck|taken|taught|thought|thrown|told|torn|understood|won|worn|written"
)
_CODE = re.compile(r"```.*?```|<!--.*?-->", re.DOTALL)
_INLINE = re.compile(r"`[^`\n]*`|\]\([^)]*\)")
_BREAK = re.compile(r"\n\s*\n|\n\s*(?=[-*>#|]|\d+\.\s)|\|")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=\S)")


def find_banned(text: str) -> Iterator[tuple[int, str]]:
    """Find words that the project doesn't use, with their line."""
    for pattern, word in _BANNED.items():
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, f'"{word}": write {BANNED[word]}'


def find_long_sentences(markdown: str) -> Iterator[tuple[int, str]]:
    """Find sentences of more than `LONGEST_SENTENCE` words in a document's prose, with their line."""
    prose = _INLINE.sub("code", _CODE.sub(lambda match: "\n" * match[0].count("\n"), markdown))
    line = 1
    for part in re.split(f"({_BREAK.pattern})", prose):
        at = line
        for sentence in _SENTENCE_END.split(part):
            if (words := len(re.findall(r"\S*\w\S*", sentence))) > LONGEST_SENTENCE:
                yield at, f"a sentence of {words} words: {' '.join(sentence.split()[:6])} ..."
            at += sentence.count("\n")
        line += part.count("\n")


def find_in_code(source: str, *, names: bool) -> Iterator[tuple[int, str]]:
    """Find docstrings that open with a question word, and functions that are named with a participle."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (riddle := _RIDDLE.match(ast.get_docstring(node) or "")) is not None:
            line = 1 if isinstance(node, ast.Module) else node.lineno
            yield line, f"a docstring opens with {riddle[0]}: open with a verb, or with the thing's noun"
        if names and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_noun(node):
            if is_participle(node):
                yield node.lineno, f"{node.name}(): name a function with a verb"
            if first := find_no_verb(ast.get_docstring(node) or ""):
                yield node.lineno, f"{node.name}(): its docstring opens with {first}: open with a verb"


def is_noun(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function is used as a value, and may be called as one: a property or a fixture."""
    return any(re.search("property|setter|fixture", ast.unparse(decorator)) for decorator in function.decorator_list)


def find_no_verb(docstring: str) -> str:
    """Return a docstring's first word if it isn't a verb; empty if it may be one."""
    first = (docstring.split() or [""])[0].rstrip(",.:;")
    return first if _NO_VERB.fullmatch(first) else ""


def is_participle(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function's name begins with a participle."""
    first = function.name.strip("_").split("_")[0]
    return bool(_IRREGULAR.fullmatch(first)) or (first.endswith("ed") and first not in _VERBS_IN_ED)


def find_all(path: str, text: str) -> list[tuple[int, str]]:
    """Find everything wrong in one file."""
    found = [*find_banned(text)]
    if path.endswith(".md") and path != "CHANGELOG.md":
        found += find_long_sentences(text)
    if path.endswith(".py"):
        found += find_in_code(text, names=not path.startswith("tests/"))
    return sorted(found)


def list_texts() -> Iterator[str]:
    """List the files of the project that are read, by their paths from its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for path in sorted(set(listed.splitlines())):
        if (ROOT / path).is_file() and Path(path).suffix in TEXTS and not path.startswith((*FOREIGN, *OWN)):
            yield path


def main() -> int:
    """Print what is wrong; anything is a failure."""
    wrong = 0
    for path in list_texts():
        for line, finding in find_all(path, (ROOT / path).read_text()):
            sys.stdout.write(f"{path}:{line}: {finding}\n")
            wrong += 1
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
