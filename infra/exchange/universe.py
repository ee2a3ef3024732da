"""The simulated universe: pairs that are not served, for the choice of what the foundation model learns from.

Prices, volatilities and betas derive from the names; no price or volume is a real one. Some pairs begin or end on a
fixed day, and stablecoins and leveraged tokens are traded as much as the largest coins.
"""

from __future__ import annotations

from dataclasses import replace

from infra.exchange.simulated import Profile, random_profile

_LARGEST_USDT = 40e6  # traded in an hour, of the first coin below
_COINS = """
AVAX DOT TRX POL ATOM UNI NEAR APT ARB OP FIL INJ SUI TIA RUNE AAVE ICP ETC XLM ALGO VET HBAR GRT SAND MANA AXS
THETA EOS EGLD FLOW KAVA SNX CRV LDO IMX GALA ENJ ZEC DASH COMP BAT ZIL KSM WAVES JUP MATIC
"""
_STABLE = Profile(1.0, 0.00002, 0.0, 60e6)

# Days on which pairs begin or end: 2024-09-02, 2025-03-03 and 2025-11-03, all Mondays.
LATE_MS, EARLY_END_MS, LATE_END_MS = 1_725_235_200_000, 1_740_960_000_000, 1_762_128_000_000


def _coins() -> dict[str, Profile]:
    profiles = {}
    for rank, name in enumerate(_COINS.split()):
        derived = random_profile(f"{name}USDT")
        profiles[f"{name}USDT"] = replace(derived, volume=_LARGEST_USDT / (1 + rank) / derived.price)
    profiles["MATICUSDT"] = replace(profiles["MATICUSDT"], volume=30e6, price=1.0, delisted_ms=EARLY_END_MS)
    profiles["WAVESUSDT"] = replace(profiles["WAVESUSDT"], delisted_ms=LATE_END_MS)
    profiles["SUIUSDT"] = replace(profiles["SUIUSDT"], listed_ms=LATE_MS)
    return profiles


UNIVERSE: dict[str, Profile] = {
    **_coins(),
    "USDCUSDT": _STABLE,
    "FDUSDUSDT": _STABLE,
    "BTCUPUSDT": Profile(20.0, 0.0005, 3.0, 2e6),
    "BTCDOWNUSDT": Profile(20.0, 0.0005, -3.0, 2e6),
}
