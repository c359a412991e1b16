"""``fleetfront strategies``: list the strategies with papers and limits."""

import typer

from searcher.cli.options import Format, OutputFormat, emit, print_table


def command(format: OutputFormat = Format.table) -> None:
    """List the compression strategies: stage, layers, paper and limits."""
    from strategies.catalog import all_strategies, problems

    rows = [{"strategy": s.name, "stage": s.stage, "layers": ", ".join(s.groups),
             "needs": ", ".join(sorted(s.requires)), "version": s.version, "summary": s.summary,
             "paper": s.paper, "limits": s.limits_text} for s in all_strategies()]
    emit(rows, rows, format, lambda: print_table(
        "strategies", ("strategy", "stage", "layers", "what it does", "paper", "limits"),
        [[str(r[c]) for c in ("strategy", "stage", "layers", "summary", "paper", "limits")]
         for r in rows]))
    for problem in problems():
        typer.echo(problem.message, err=True)
