"""Writes tests/data/tensorboard.bin: an event file of TensorBoard, by tensorboardX.

    pip install tensorboardX==2.6.5 && python tests/reference/make_tensorboard.py

The events are those of `records_are_those_that_tensorboardx_writes` in src/run/tensorboard.rs.
"""
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

BEGUN = 1_700_000_000.25


def event(time, step, scalars):
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars]
    return Event(wall_time=time, step=step, summary=Summary(value=values))


def step(time, number, rate=0.0, further=()):
    scalars = [("step/loss", 0.5 / (1 + number)), ("step/cross_entropy", 0.0), ("step/dice_loss", 0.0)]
    scalars += [("step/learning_rate", rate), *further, ("step/seconds", 1.5)]
    return event(time, number, scalars)


events = [
    Event(wall_time=BEGUN, file_version="brain.Event:2"),
    step(BEGUN + 1.5, 0, 0.01, [("step/gradient_norm", 12.5), ("step/mixup_loss", -1.5e-7)]),
    step(BEGUN + 3, 1),
    step(BEGUN + 4.5, 200),
    event(BEGUN + 7, 299, [
        ("epoch/train_loss", 0.1),
        ("epoch/share_waiting_on_data", 0.01),
        ("validation/mean_dice", 0.625),
        ("validation_dice/core", 0.625),
        ("validation_sensitivity/Ödem", 0.0),
        ("validation_sensitivity/core", 1.0),
        ("validation_precision/core", 1 / 3),
    ]),
    event(BEGUN + 7.125, 299, [("misclassified_seen/background", 0.25)]),
]
path = Path(__file__).parents[1] / "data" / "tensorboard.bin"
path.unlink(missing_ok=True)
writer = RecordWriter(str(path))
for one in events:
    writer.write(one.SerializeToString())
writer.close()
print(path, path.stat().st_size, "bytes")
