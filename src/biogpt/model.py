"""`python -m biogpt.model`: the architecture's self-test, as in the published guide."""

from resprout.cli.comparison_parser import Parser, parse


def main() -> None:
    """Print layout, feedback and parameters of the published model, and run it forward once."""
    parse(Parser(prog="python -m biogpt.model", description=main.__doc__, allow_abbrev=False))

    # Only now, for they take seconds.
    import torch

    from resprout.models.biogpt import BioGPTConfig
    from resprout.models.description import breakdown_lines, layout_lines, parameter_total
    from resprout.models.sizes import build

    config = BioGPTConfig()
    model = build(config, seed=0).eval()
    print("\n".join([*layout_lines(config), "", *breakdown_lines(model), ""]))
    print(f"BioGPT total: {parameter_total(model):,}")
    ids = torch.randint(config.vocab_size, (1, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
    if logits.shape != (1, 64, config.vocab_size) or not bool(logits.isfinite().all()):
        raise SystemExit("forward pass: FAILED, logits are not finite or not of shape (1, 64, V)")
    print(f"Forward pass: ok, {tuple(ids.shape)} tokens -> {tuple(logits.shape)} logits")


if __name__ == "__main__":
    main()
