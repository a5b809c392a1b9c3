"""How long and how dear a job may be, and what it has cost: arithmetic only.

Lambda bills from the acceptance of the order and has no balance to ask for, so cost is counted on
our side, from the moment of our request, which is never later. Wall time is used, because a
machine bills while a laptop sleeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Final

from aquachat.errors import ConfigError

DEFAULT_MAX_HOURS: Final = 4.0
CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Use:
    """A machine's time on the bill, from our request to its confirmed end (or now)."""

    started_at_s: float
    price_usd_per_hour: Decimal | None
    ended_at_s: float | None = None

    def hours(self, now_s: float) -> float:
        """Hours on the bill so far."""
        end_s = now_s if self.ended_at_s is None else self.ended_at_s
        return max(0.0, end_s - self.started_at_s) / 3600

    def cost_usd(self, now_s: float) -> Decimal | None:
        """Its cost so far, rounded up to a cent; None where the price is not known."""
        if self.price_usd_per_hour is None:
            return None
        exact = self.price_usd_per_hour * Decimal(str(self.hours(now_s)))
        return exact.quantize(CENT, ROUND_UP)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may use at most, over all its machines.

    Example:
        limits = Limits(max_hours=4, max_cost_usd=Decimal(5))
        limits.deadline_s([Use(0, Decimal("2.50"))])   # 7200.0: two hours cost 5 dollars
    """

    max_hours: float = DEFAULT_MAX_HOURS
    max_cost_usd: Decimal | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be a limit."""
        if not (math.isfinite(self.max_hours) and 0 < self.max_hours <= 9000):
            raise ConfigError(
                f"`--max-hours` cannot be {self.max_hours:g}", hint="use a number such as 4 or 0.5"
            )
        cost = self.max_cost_usd
        if cost is not None and not (cost.is_finite() and cost > 0):
            raise ConfigError(
                f"`--max-cost` cannot be {cost}", hint="use dollars such as 10 or 2.50"
            )

    def deadline_s(self, uses: Sequence[Use]) -> float:
        """When the running machine (the last of `uses`) must be ended, on the clock of `Use`.

        Raises:
            ConfigError: a cost limit cannot be held, because a price is not known.
        """
        if not uses:
            raise ValueError("there is no machine to end")
        *earlier, running = uses
        hours = self.max_hours - sum(use.hours(use.ended_at_s or 0.0) for use in earlier)
        if self.max_cost_usd is not None:
            left = self.max_cost_usd
            for use in earlier:
                left -= _known(use.cost_usd(use.ended_at_s or 0.0))
            price = _known(running.price_usd_per_hour)
            if price > 0:
                hours = min(hours, float(left / price))
        return running.started_at_s + 3600 * max(0.0, hours)

    def reason(self, uses: Sequence[Use], now_s: float) -> str | None:
        """Why the job must end now, or None while it may go on."""
        if now_s < self.deadline_s(uses):
            return None
        cost = self.max_cost_usd
        spent = [use.cost_usd(now_s) for use in uses]
        if cost is not None and sum((_known(s) for s in spent), Decimal(0)) >= cost:
            return f"it has cost the ${cost} that it may cost"
        return f"it has run the {self.max_hours:g} hours that it may run"

    def poll_s(self, uses: Sequence[Use], now_s: float, interval_s: float) -> float:
        """How long to wait before looking again: never beyond the deadline."""
        return min(interval_s, max(0.0, self.deadline_s(uses) - now_s))

    def max_minutes(self, price_usd_per_hour: Decimal | None, earlier: Sequence[Use] = ()) -> int:
        """The whole minutes that one more machine may run; what goes into its name.

        Raises:
            ConfigError: less than a minute is left, or the price that a cost limit needs is not
                known.
        """
        deadline_s = self.deadline_s([*earlier, Use(0.0, price_usd_per_hour)])
        minutes = int(deadline_s // 60)
        if minutes < 1:
            raise ConfigError(
                "the limits leave less than a minute of machine time",
                hint="raise `--max-hours` or `--max-cost`",
            )
        return minutes

    def budget_usd(self, price_usd_per_hour: Decimal | None) -> Decimal | None:
        """The most that a job at this price can cost; None where that is not known."""
        if price_usd_per_hour is None:
            return self.max_cost_usd
        by_hours = (price_usd_per_hour * Decimal(str(self.max_hours))).quantize(CENT, ROUND_UP)
        return by_hours if self.max_cost_usd is None else min(by_hours, self.max_cost_usd)


def _known(amount: Decimal | None) -> Decimal:
    if amount is None:
        raise ConfigError(
            "`--max-cost` cannot be held: the price of the machine is not known",
            hint="use `--max-hours`, or choose an offer with a price",
        )
    return amount
