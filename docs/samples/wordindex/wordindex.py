"""An index of words that a web application would load before it forks its workers."""

from __future__ import annotations


class Index:
    """Words with the places where they occur, and how often each was asked for."""

    def __init__(self, words: int) -> None:
        self.places = {f"word {number}": [number, number + 1] for number in range(words)}
        self.asked: dict[str, list[int]] = {word: [0] for word in self.places}

    def find(self, word: str) -> list[int]:
        """Where WORD occurs. Writes nothing."""
        return self.places[word]

    def find_and_count(self, word: str) -> list[int]:
        """The same, and counts the question inside the index: every worker that asks for many
        words ends up with a copy of the pages that hold the counters."""
        self.asked[word][0] += 1000
        return self.places[word]
