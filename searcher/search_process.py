"""The search process of one campaign: ``python -m searcher.search_process``; only decides."""

import argparse
import sys
from pathlib import Path

from profiles.schema import profile
from searcher.building import target_of
from searcher.campaign import from_document
from searcher.errors import FleetfrontError, UserError
from searcher.lifeline import die_with_parent
from searcher.running import connect, cores
from searcher.sampling import Sampling, Space
from searcher.search import Search
from searcher.tasks.catalog import task as task_of
from strategies.layers import layers_of


def search(directory: Path, name: str) -> None:
    """Drive campaign ``name`` to its end; a failure of the whole campaign is recorded as such."""
    with connect(directory) as client:
        try:
            client.set_state(name, "running")
            campaign = from_document(client.campaign(name)["spec"])
            task = task_of(campaign.task)
            device = profile(campaign.devices[0])
            target = target_of(device)
            space = Space.of(campaign, layers_of(task.model()), device.number_formats)
            told = len(client.trials(name))
            Search(client, campaign, device.name, Sampling(campaign, space, told), {
                "opset": target.opset, "ir_version": target.ir_version,
                "number_formats": sorted(target.number_formats),
                "int8_activations": target.int8_activations},
                campaign.builders or cores()).run()
        except FleetfrontError as error:
            client.set_state(name, "failed", reason=str(error))
            raise


def main() -> None:
    """Exit 1 when the user can mend it, 2 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--campaign", required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    try:
        search(arguments.dir, arguments.campaign)
    except FleetfrontError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1 if isinstance(error, UserError) else 2)


if __name__ == "__main__":
    main()
