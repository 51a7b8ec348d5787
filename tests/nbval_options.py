"""nbval as we use it: progress on stderr is not compared, nor what the committed notebooks may print differently."""

import os

VARIES = {"depends-on-training", "depends-on-imagenet"}


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = (*collector.skip_compare, "stderr")


def pytest_collection_modifyitems(items):
    if os.environ.get("WSOL_NBVAL") == "committed":
        for item in items:
            if VARIES & set(item.cell.metadata.get("tags", [])):
                item.options["check"] = False
