"""Names of genes, brought up to date; shared by the sources that read a user's or a paper's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def current(symbols: Iterable[str], resolve: Callable[[str], str | None]) -> dict[str, str]:
    """Symbol -> current symbol, for those that alone stand for a gene. Where several of the symbols mean one gene, the
    current one stands for it if it is among them, and none does otherwise. What `resolve` does not know is left out.
    """
    found = {symbol: gene for symbol in dict.fromkeys(symbols) if (gene := resolve(symbol))}
    carriers: dict[str, list[str]] = {}
    for symbol, gene in found.items():
        carriers.setdefault(gene, []).append(symbol)
    return {s: g for s, g in found.items() if s == g or (len(carriers[g]) == 1)}
