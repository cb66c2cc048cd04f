#!/bin/sh
# Copies a data set, plants twenty-two different faults in the copy and lists which `segen check` finds.
# usage: tests/plant_faults.sh DATASET COPY
exec cargo run --quiet --release --example plant_faults -- "$@"
