"""Options of the commands that run a study: where its points are worked."""

from typing import Annotated

import typer

EngineName = Annotated[str, typer.Option(help="local (this machine) or ray (a Ray cluster)")]
Workers = Annotated[
    int | None,
    typer.Option(help="points worked at a time; default 1, with ray as many as there is room for"),
]
Address = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of a Ray cluster, or auto; default one started for this run"),
]
Cpus = Annotated[
    int | None,
    typer.Option(help="CPU threads of a point; default the study's, else as torch has them"),
]
Gpus = Annotated[
    float | None, typer.Option(help="GPUs of a point, with ray; 0.5 = two points share one")
]
MemoryGb = Annotated[float | None, typer.Option(help="memory of a point in 10^9 bytes, with ray")]
