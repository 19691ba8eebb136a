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
            common.write_lines(os.path.join(folder, geometry, "logprobs", adapter + ".jsonl"),
                               common.logprob_rows(model, records))


if __name__ == "__main__":
    main()
