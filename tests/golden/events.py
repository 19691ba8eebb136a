# SPDX-License-Identifier: MIT
"""events.py - TensorBoard's event files, as TensorBoard writes and reads them (needs tensorboard).

usage: events.py FOLDER                    writes FOLDER/events/scalars.tfevents, testdata's golden file
       events.py --read DIR METRICS.jsonl  reads t5-train's --tensorboard DIR with TensorBoard, compares it with the
                                           run's metrics and prints what it found"""
import json
import os
import struct
import sys


def events():
    """The events of tests/unit/test_event_file.c, in its order."""
    from tensorboard.compat.proto import event_pb2
    yield event_pb2.Event(wall_time=1234567890.125, file_version="brain.Event:2")
    start = event_pb2.Event(wall_time=1234567890.25, step=300)
    start.session_log.status = 1
    yield start
    for step, values in ((1, {"train/loss": 0.75, "train/learning_rate": 1e-3}), (2**40, {"eval/loss": float("inf")}),
                         (2, {"x": 0.0})):
        event = event_pb2.Event(wall_time=1234567890.5, step=step)
        for tag, value in values.items():
            event.summary.value.add(tag=tag, simple_value=value)
        yield event


def write(folder):
    from tensorboard.summary.writer.record_writer import RecordWriter
    os.makedirs(os.path.join(folder, "events"), exist_ok=True)
    with open(os.path.join(folder, "events", "scalars.tfevents"), "wb") as out:
        writer = RecordWriter(out)
        for event in events():
            writer.write(event.SerializeToString())


def as_f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def read(folder, metrics):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    accumulator = EventAccumulator(folder, size_guidance={"scalars": 0})
    accumulator.Reload()
    with open(metrics, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    names = {"train/loss": "loss", "train/learning_rate": "lr", "train/grad_norm": "grad_norm", "eval/loss": "eval_loss",
             "eval/rouge1": "eval_rouge1", "eval/rougeL": "eval_rougeL"}
    for tag in accumulator.Tags()["scalars"]:
        got = {e.step: e.value for e in accumulator.Scalars(tag)}
        assert len(got) == len(accumulator.Scalars(tag)), f"{tag}: a step twice"
        print(json.dumps({"tag": tag, "points": len(got), "last": got[max(got)]}))
        if tag not in names:
            continue
        want = {row["step"]: row[names[tag]] for row in rows if names[tag] in row}  # of repeated steps the last
        assert set(got) == set(want), (tag, sorted(got), sorted(want))
        # the log has ROUGE to four digits
        assert all(abs(got[s] - as_f32(want[s])) <= 1e-4 for s in got), tag


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--read":
        read(sys.argv[2], sys.argv[3])
    elif len(sys.argv) == 2:
        write(sys.argv[1])
    else:
        sys.exit(__doc__)
