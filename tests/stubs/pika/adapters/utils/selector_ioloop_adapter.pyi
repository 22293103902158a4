from abc import ABCMeta
from typing import Any

class SelectorIOServicesAdapter(metaclass=ABCMeta):
    def __init__(self, native_loop: Any) -> None: ...
