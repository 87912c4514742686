"""Bad inputs of the published commands and scripts."""

from dataclasses import replace

from nonsense import CONFIG, HEAVY, Row, row

AGENCY = "scripts/pruning_comparison/pruning_agency_comparison.py"
CPU_TEST = "scripts/pruning_comparison/run_pruning_cpu_test.py"
COLAB = "scripts/pruning_comparison/run_pruning_comparison_colab.py"
CHARTS = "scripts/generate_charts.py"


def of(program: str, *rows: Row) -> list[Row]:
    """The same rows of another program."""
    return [replace(r, program=program, name=r.name.replace("resprout", program)) for r in rows]


COMPARE = of(
    "biogpt.compare",
    row("--data_dri data", "--data_dri", "did you mean '--data_dir'"),
    row("--data_dir", "--data_dir", "expected one argument"),
    row("--protocol fare", "protocol: got 'fare'", "both, paper, fair", "did you mean 'fair'"),
    row("--finetune_steps -1", "finetune_steps: got '-1'", "0 to"),
    row("--finetune_steps 1e3", "finetune_steps: got '1e3'", "whole number"),
    row(f"--finetune_steps {10**30}", "finetune_steps: got", "0 to"),
    row(f"--seed {2**64}", "seed: got", "0 to"),
    row("--data_dir nowhere", "data_dir: 'nowhere'", "prepare_data"),
    row("--data_dir file", "data_dir: 'file'", "prepare_data"),
    row("--data_dir garbled --biogpt_ckpt model", "garbled"),
    row("--data_dir data --biogpt_ckpt nowhere.pt", "biogpt_ckpt:", "'nowhere.pt'"),
    row("--data_dir data --biogpt_ckpt trained", "biogpt_ckpt: 'trained'", "'trained/final'"),
    row("--data_dir data --biogpt_ckpt model", "biogpt_ckpt: 'model'", "llama", "BioGPT"),
    row("--data_dir data --biogpt_ckpt empty", "biogpt_ckpt: 'empty'", "config.json"),
    row("--data_dir data --biogpt_ckpt x.pt --pythia empty", "pythia: 'empty'", "config.json"),
    row("--data_dir data --biogpt_ckpt x.pt --pythia no-such", "pythia: 'no-such'", "FOLDER"),
    row("--data_dir data --biogpt_ckpt x.pt --pythia biogpt-nano", "pythia:", "not trained"),
    row("--data_dir data --biogpt_ckpt x.pt --pythia model --pythia_step 1000", "pythia_step"),
    row("--data_dir data --biogpt_ckpt x.pt --pythia_step 3", "pythia_step: got 3", "512"),
    row("--data_dir data --biogpt_ckpt x.pt --pythia_step 999999", "pythia_step: got '999999'"),
    row("--data_dir data --biogpt_ckpt x.pt --output_dir file", "output_dir:", "file"),
    row("--data_dir data --biogpt_ckpt x.pt --device tpu", "device: got 'tpu'", "cpu"),
    # torch reads checkpoints.
    row("--data_dir data --biogpt_ckpt x.pt --pythia model", "x.pt", imports=HEAVY),
)

AGENCY_ROWS = of(
    AGENCY,
    row("--model nano", "--model", "did you mean '--model_name'"),
    row("--pruning_method entropi", "pruning_method: got 'entropi'", "did you mean 'entropy'"),
    row("--precision int8", "precision: got 'int8'", "float32, bfloat16, float16"),
    row("--pruning_levels 0,100", "pruning_levels: got 100", "below 100"),
    row("--pruning_levels 0,-5", "pruning_levels: got -5", "0 to below 100"),
    row("--pruning_levels 45%", "pruning_levels: got '45%'", "numbers"),
    row("--pruning_levels nan", "pruning_levels: got nan", "finite"),
    row("--pruning_levels 20,20", "pruning_levels: got 20 twice", "each once"),
    row("--pruning_levels ''", "pruning_levels: got ''", "numbers"),
    row("--temperatures=-1", "temperatures: got -1", "0 (greedy)"),
    row("--temperatures inf", "temperatures: got inf", "finite"),
    row("--temperatures 0.7,1e-38", "temperatures: got 1e-38", "0 (greedy) or 1e-06 and more"),
    row("--num_tokens 0", "num_tokens: got 0", "1 to 1048575"),
    row("--max_prompts 0", "max_prompts: got 0", "1 to 1048575"),
    row("--iterations 0", "iterations: got 0", "1 to 1048575"),
    row("--iterations two", "iterations: got 'two'", "whole number"),
    row(f"--batch_size {10**30}", "batch_size: got", "1 to 1048575"),
    row("--recover_steps=-1", "recover_steps: got -1", "0 to 1048575"),
    row("--gate_penalty nan", "gate_penalty: got 'nan'", "none"),
    row("--seed=-1", "seed: got -1", "0 to"),
    row("--prompt_file nowhere.txt", "prompt_file: 'nowhere.txt'", "cannot be read"),
    row("--prompt_file empty.txt", "prompt_file: 'empty.txt' is empty", "one prompt per line"),
    row("--prompt_file latin.txt", "prompt_file: 'latin.txt'", "UTF-8"),
    row("--output_dir file", "output_dir: got 'file'", "a folder"),
    row("--output_dir full --model_name gpt2-nano", "output_dir: 'full'", "'mine.txt'"),
    row("--device cuda:99 --model_name gpt2-nano", "device: got 'cuda:99'", "cpu"),
    row("--data nowhere --model_name gpt2-nano", "data: got 'nowhere'", "'stdlib'"),
    row("--data . --output_dir new", "output_dir: 'new'", "data '.'", "outside of it"),
    row("--data text --output_dir text/new", "output_dir: 'text/new'", "data 'text'"),
    row("--data empty --output_dir new", "data: the folder 'empty'", ".txt"),
    row("--data latin.txt --output_dir new", "data: latin.txt (byte 3", "UTF-8"),
    row("--model_name no-such-model", "model_name: 'no-such-model'", "gpt2-nano"),
    row("--model_name empty", "model_name: 'empty'", "config.json"),
    row("--model_name bare", "model_name: 'bare' has no tokenizer; allowed is a model folder"),
    row("--model_name gpt2-nano --num_tokens 128", "num_tokens: got 128", "127"),
    row("--visualize_only --output_dir empty", "visualize_only: 'empty'", "no records"),
    row("--device mps --model_name gpt2-nano", "device: got 'mps'", "cpu", imports=CONFIG),
    # That its attention cannot carry agency shows when it is tried.
    row("--model_name biogpt-nano", "model_name:", "attention", imports=HEAVY),
    # Whether a device computes in a precision, torch tells.
    row("--model_name gpt2-nano --device cpu --precision float16", "precision: got float16",
        "float32, bfloat16", imports=HEAVY),
)  # fmt: skip

OTHERS = [
    *of(
        CPU_TEST,
        row("--debugg", "--debugg", "did you mean '--debug'"),
        row("--output_dir file", "output_dir: got 'file'", "a folder"),
        row("--pruning_levels 101", "pruning_levels: got 101", "below 100"),
    ),
    *of(
        COLAB,
        row("--pruning_method entropi", "pruning_method: got 'entropi'", "did you mean 'entropy'"),
    ),
    *of(
        CHARTS,
        row("--result x", "--result", "did you mean '--results'"),
        row("--results nowhere", "'nowhere'"),
        row("--results bad.json", "bad.json"),
        row("--results empty", "empty"),
        row("--out file", "out:", "file"),
    ),
    *of(
        "biogpt.generate",
        row("--prompt x", "checkpoint: missing", "--checkpoint PATH"),
        row("--checkpoint nowhere.pt --prompt x", "'nowhere.pt'"),
        row("--checkpoint model --prompt x --top_k -1", "top_k: got -1", "0 (all tokens)"),
    ),
    *of(
        "biogpt.train",
        row("--data_dir nowhere --out_dir new", "data_dir: got 'nowhere'", "prepare"),
        row("--out_dir new --n_passes 3", "n_passes: got 3", "equal to 2"),
        row("--out_dir new --bogus", "--bogus"),
    ),
    *of(
        "biogpt.prepare_data",
        row("--out_dir new --source nowhere", "source: got 'nowhere'", "stdlib"),
        row("--out_dir new --val_fraction 2", "val_fraction: got 2", "below 1"),
        row("--out_dir file", "'file'", "folder"),
    ),
    *of("biogpt.model", row("--bogus", "--bogus"), row("x", "x")),
]

ROWS: list[Row] = [*COMPARE, *AGENCY_ROWS, *OTHERS]
