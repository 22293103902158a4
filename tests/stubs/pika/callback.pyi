from typing import Any

class CallbackManager:
    def add(
        self,
        prefix: str | int,
        key: Any,
        callback: Any,
        one_shot: bool = True,
        only_caller: Any = None,
        arguments: Any = None,
    ) -> tuple[str | int, str]: ...
    def process(self, prefix: str | int, key: Any, caller: Any, *args: Any, **keywords: Any) -> bool: ...
