import pytest

from tests.language import find_all, list_texts


@pytest.mark.parametrize(
    ("path", "text", "findings"),
    [
        ("x.md", "The body goes by the road.\n", [(1, '"goes by": write uses, or follows')]),
        ("x.toml", "a = 1\n# made anew\n", [(2, '"anew": write again, or a new one')]),
        ("x.py", "# a body, what is\n# no envelope\n", [(1, '"what is no": write an invalid ...')]),
        (
            "x.py",
            '"""What a module owns."""\n',
            [(1, "a docstring opens with What: open with a verb, or with the thing's noun")],
        ),
        ("x.py", "def held():\n    ...\n", [(1, "held(): name a function with a verb")]),
        ("x.py", "async def _dealt_since():\n    ...\n", [(1, "_dealt_since(): name a function with a verb")]),
        ("x.py", "class A:\n    @property\n    def held(self):\n        ...\n", []),
        (
            "x.py",
            'def size():\n    """How many bytes it takes."""\n',
            [(1, "size(): its docstring opens with How: open with a verb")],
        ),
        (
            "x.py",
            'def head():\n    """Measurement, and tags."""\n',
            [(1, "head(): its docstring opens with Measurement: open with a verb")],
        ),
        (
            "x.py",
            'def units():\n    """`By` is bytes."""\n',
            [(1, "units(): its docstring opens with `By`: open with a verb")],
        ),
        ("x.py", 'def size():\n    """Return the size."""\n', []),
        ("x.py", 'class A:\n    @property\n    def size(self):\n        """The bytes it takes."""\n', []),
        ("tests/x.py", 'def size():\n    """The bytes it takes."""\n', []),
        ("x.py", "def read():\n    ...\n\ndef feed():\n    ...\n", []),
        ("tests/x.py", "def held():\n    ...\n", []),
        (
            "x.md",
            "A short one.\n\n" + "word " * 41 + "end.\n",
            [(3, "a sentence of 42 words: word word word word word word ...")],
        ),
        ("x.md", "Of two. " * 30 + "\n", []),
        ("x.md", "| " + "word " * 30 + "| " + "word " * 30 + "|\n", []),
        ("x.md", "- " + "word " * 30 + "\n- " + "word " * 30 + "\n", []),
        ("x.md", "```\n" + "word " * 60 + "\n```\n", []),
    ],
)
def test_the_language_check_finds_each_pattern(path: str, text: str, findings: list[tuple[int, str]]) -> None:
    assert find_all(path, text) == findings


def test_the_language_check_reads_what_users_see() -> None:
    assert {
        "README.md",
        "docs/guarantees.md",
        "docs/runbooks/ShardStalled.md",
        "busmon/errors.py",
        "busmon/catalogue/platform.toml",
        "docker/grafana/dashboards/pipeline.json",
        "Makefile",
    } <= {*list_texts()}
