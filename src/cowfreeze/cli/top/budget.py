"""How much of the time watching may cost.

Reading the page tables of a process takes 4 to 7 ms per GiB and holds a lock that its page
faults want. So the price of each reading is measured, and the next one waits until it has been
earned: after a reading of C seconds nothing is read for C / share seconds. A tree of 30 GiB is
then read every half minute, a small one at every frame, and nobody sets a rate by hand.
"""

from __future__ import annotations


class Budget:
    """Seconds that may be spent, earned at the rate SHARE.

    What is not spent before the next tick is lost: an idle hour must not pay for a busy minute.
    What is overspent (one reading may be dear) stays owed until it is earned back.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._balance = 0.0
        self._last: float | None = None

    def tick(self, now: float) -> None:
        """Earn for the time since the last tick; NOW in seconds of any steady clock."""
        if self._last is not None:
            earned = self.share * (now - self._last)
            self._balance = min(self._balance + earned, earned)
        self._last = now

    def ready(self) -> bool:
        """May something be spent now?"""
        return self._balance > 0

    def spend(self, seconds: float) -> None:
        self._balance -= seconds
