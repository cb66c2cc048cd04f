# Lists the recipes.
default:
    @just --list

# Everything before a pull request.
check:
    .ci/run
    cargo test --workspace --doc
    cargo deny check licenses bans

# Tests alone. Real scans are used where $SEGEN_DATA names their folder.
test *filter:
    cargo test --workspace {{filter}}

# The main job, end to end, without data.
demo folder="demo":
    cargo run --release -- demo -o {{folder}}

# Speed of reading against nibabel, of operators against PyTorch.
bench python="python3":
    cargo run --release -p segen-kernels --example against_pytorch -- --python {{python}}
    cargo bench -p segen-kernels --bench operators

# Reference pages of the library.
docs:
    cargo doc --workspace --no-deps --open
