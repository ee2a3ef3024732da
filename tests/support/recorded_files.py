"""The recorded candles of `tests/recorded.json`: which files hold them, and the command that downloads them.

    python -m tests.support.recorded_files

`make data` runs it. After an interruption the same command continues: it downloads only what the files lack.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from make_us_rich.cli.history import download
from make_us_rich.cli.shared import command_error
from make_us_rich.core.errors import BadCandles, MakeUsRichError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import parse_symbol
from make_us_rich.market.recordings import digest, read_klines
from tests.support.processes import PROJECT_ROOT

LIST = PROJECT_ROOT / "tests" / "recorded.json"

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Recording:
    """Klines of one interval, in a folder of that name: candles from `first` to the day before `end` (UTC)."""

    folder: str
    interval: str
    first: str
    end: str
    sha256: dict[str, str]  # of each file, by its name without .parquet
    source: str = ""  # where candles come from that the exchange does not have

    def problems(self, data: Path) -> dict[str, str]:
        """Return what is wrong with each file that is missing or holds other candles."""
        found = {}
        for name, wanted in self.sha256.items():
            path = data / self.folder / f"{name}.parquet"
            if not path.is_file():
                found[name] = f"{path} is missing"
            elif self._digest(path) != wanted:
                found[name] = f"{path} does not hold the candles of {self.first} to {self.end} that {LIST.name} lists"
        return found

    def _digest(self, path: Path) -> str | None:
        try:
            candles = read_klines(path, Interval(self.interval))
        except BadCandles:
            return None
        first_ms, end_ms = (
            datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000 for day in (self.first, self.end)
        )
        return digest(candles[(candles.open_time_ms >= first_ms) & (candles.open_time_ms < end_ms)])


def read_list(path: Path = LIST) -> list[Recording]:
    return [Recording(folder, **item) for folder, item in json.loads(path.read_text()).items()]


@app.command()
def main(listed: Path = LIST, out: Path = PROJECT_ROOT / "data") -> None:
    """Download the candles that the tests marked `recorded` need, and check them."""
    wrong: list[str] = []
    for recording in read_list(listed):
        try:
            wrong += _complete(recording, out)
        except MakeUsRichError as error:
            raise command_error(str(error)) from None
    if wrong:
        again = "delete such a file and run this again; if it stays so, the exchange has changed its history"
        raise command_error("\n".join([*wrong, again]))


def _complete(recording: Recording, out: Path) -> list[str]:
    """Download what the files lack; return what is wrong with those of the exchange then."""
    problems = recording.problems(out)
    if problems and recording.source:
        print(*problems.values(), f"not of the exchange: {recording.source}", sep="\n")
        return []
    if problems:
        first, end = (datetime.fromisoformat(day) for day in (recording.first, recording.end))
        pairs = ",".join(str(parse_symbol(name)) for name in problems)
        download(pairs, first, end, out / recording.folder, recording.interval)
        problems = recording.problems(out)
    print(
        f"{recording.folder}: {len(recording.sha256) - len(problems)} of {len(recording.sha256)} files are as recorded"
    )
    return list(problems.values())


if __name__ == "__main__":
    app()
