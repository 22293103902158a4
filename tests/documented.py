"""The code blocks and commands of README.md and docs/, for the tests that run them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))

NOT_RUN: Mapping[str, str] = {  # how a shell line begins that no test runs as it is, and the reason
    "make ": "the targets have tests of their own: tests/unit/test_setup.py, tests/fleet/test_demo.py",
    "sudo ": "changes the system",
    "git clone ": "the repository's address is the reader's",
    "python3 -m venv ": "makes the reader's environment; tests/fleet/test_wheel.py makes one",
    ". ~/busmon-venv": "enters the reader's environment",
    "pip install ": "tests/fleet/test_wheel.py installs the package",
    "rabbitmq-plugins ": "changes the broker; the tests' node has the plugins",
    "rabbitmqctl ": "changes the broker",
    "export BUSMON_AMQP_URL=": "names the reader's broker; a test names its own",
    "export BUSMON_MANAGEMENT_URL=": "as above",
    "export BUSMON_PUBLISHER_PASSWORD=": "chooses the reader's passwords",
    "busmon up": "the fleet under test is that command",
    "busmon top": "runs until Ctrl-C; tests/fleet/test_top.py",
    "busmon tail ": "runs until Ctrl-C; tests/broker/test_tail.py",
    "busmon topology declare": "needs the broker's administrator; tests/broker/test_declaring.py",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.strip().splitlines()[0][:40]}"

    def runnable(self) -> str:
        """Return a shell block without the lines that no test runs."""
        lines = [line for line in self.text.splitlines() if not without_variables(line).startswith(tuple(NOT_RUN))]
        return "\n".join(lines).strip()


def without_variables(line: str) -> str:
    """Return a shell line without the variables that it sets for its command alone."""
    return re.sub(r"^(\w+=\S+ )+", "", line)


def blocks(*languages: str) -> list[Block]:
    """List the blocks of all pages that are in one of these languages."""
    return [
        Block(page, language, text)
        for page in PAGES
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
        if not languages or language in languages
    ]


def commands() -> Iterator[tuple[str, list[str]]]:
    """List each `busmon ...` in a page's or runbook's text and shell blocks, as page and words."""
    for page in (*PAGES, *(f"docs/runbooks/{path.name}" for path in (ROOT / "docs/runbooks").glob("*.md"))):
        text = (ROOT / page).read_text()
        shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for line in (*re.findall(r"`([^`]*)`", prose), *shell.splitlines()):
            for command in re.findall(r"(?<!from )\bbusmon ([a-z][^|&;<>]*)", re.sub(r"\s#.*", "", line)):
                yield page, command.split()
