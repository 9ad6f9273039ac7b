"""What p2d claims of hundreds of cases, beside their right answers."""

from __future__ import annotations

from p2d.bench.verdict_cases import case_of, cases, dealt, numbers

__all__ = ["case_of", "cases", "dealt", "numbers"]
