"""Each stage at the released sizes, side by side with its baseline in one run.

`python -m benchmarks.stages --original DIR` takes a checkout of stepfun-ai/Step-Audio-EditX and times its code; without
it each row names the baseline it used instead. Every row says how close the two results are.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import stage_flow, stage_tokenizer, stage_vocoder
from benchmarks.report import print_rows

STAGES = {"tokenizer": stage_tokenizer.rows, "flow": stage_flow.rows, "vocoder": stage_vocoder.rows}


def main(
    original: Annotated[Path | None, typer.Option(help="A checkout of stepfun-ai/Step-Audio-EditX.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(STAGES)}; default all.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Thread counts; default 1 and 2.")] = None,
) -> None:
    """Time each stage at each thread count and print one table."""
    found = []
    for name in stage or STAGES:
        for count in threads or (1, 2):
            print(f"{name}, {count} threads: minutes …", flush=True)
            found += STAGES[name](original, count)
    print_rows(found)


if __name__ == "__main__":
    typer.run(main)
