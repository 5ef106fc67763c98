"""A card that scripted engines and a scripted trainer share: it remembers who was on it together with the other side.

A folder on this machine; whoever is on the card has a file there with its process id, so the dead are not on it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Side = Literal["engine", "trainer"]


@dataclass(frozen=True)
class SharedCard:
    folder: str

    def enter(self, side: Side, who: str) -> None:
        self._place(side, who).write_text(str(os.getpid()))
        self._look(side, f"{who} enters")
        self._tell(f"{who} enters")

    def leave(self, side: Side, who: str) -> None:
        self._place(side, who).unlink(missing_ok=True)
        self._tell(f"{who} leaves")

    def use(self, side: Side, who: str) -> None:
        """Work on the card, which only who is on it may do."""
        if not self._place(side, who).exists():
            self._blame(f"{who} works off the card")
        self._look(side, f"{who} works")

    def events(self) -> list[str]:
        """Who entered and left, in order."""
        return self._lines("events")

    def faults(self) -> list[str]:
        """What must not be."""
        return self._lines("faults")

    def _place(self, side: Side, who: str) -> Path:
        return Path(self.folder, f"{side}.{who}")

    def _look(self, side: Side, what: str) -> None:
        other = "trainer" if side == "engine" else "engine"
        for place in Path(self.folder).glob(f"{other}.*"):
            try:
                os.kill(int(place.read_text() or 0), 0)
            except (OSError, ValueError):
                continue  # it has left, or is dead
            self._blame(f"{what} while {place.name} is on the card")

    def _blame(self, what: str) -> None:
        self._append("faults", what)

    def _tell(self, what: str) -> None:
        self._append("events", what)

    def _append(self, name: str, line: str) -> None:
        with open(os.path.join(self.folder, name), "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _lines(self, name: str) -> list[str]:
        path = Path(self.folder, name)
        return path.read_text("utf-8").splitlines() if path.exists() else []
