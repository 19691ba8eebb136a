# SPDX-License-Identifier: MIT
"""logprobs.py - log-probability of every label, each record alone, for each model with and without adapters."""
import os

import common


def main():
    folder = common.start()
    records = common.read_records(folder)
    for geometry in common.GEOMETRIES:
        for adapter in common.ADAPTERS:
            model = common.load_model(folder, geometry, adapter)
            rows = []
            for record in records:
                values = common.label_logprobs(model, record)
                rows.append({"id": record["id"], "sum": common.number(values.double().sum()),
                             "logprobs": [common.number(v) for v in values]})
            common.write_lines(os.path.join(folder, geometry, "logprobs", adapter + ".jsonl"), rows)


if __name__ == "__main__":
    main()
