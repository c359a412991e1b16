"""The search process of one campaign: ``python -m searcher.search_process``; only decides.

It may be ended at any moment: whatever it knew is in the ledger.
"""

import argparse
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from profiles.schema import DeviceProfile, ProfileError, profile
from searcher.building import target_of
from searcher.campaign import Campaign, from_document
from searcher.client import CoordinatorClient, connect
from searcher.errors import BuildError, FleetfrontError, ProtocolError, UserError
from searcher.lifeline import die_with_parent
from searcher.running import cores
from searcher.sampling import Sampling
from searcher.search import Search
from searcher.space import Space
from searcher.tasks.catalog import task as task_of
from strategies.layers import layers_of

FINAL = (UserError, BuildError)
"""What no second try would change."""
DEFECT = 2


def search(directory: Path, name: str) -> None:
    """Drive campaign ``name`` to its end. A ``FINAL`` error is recorded as its failure."""
    with connect(directory) as client:
        try:
            client.set_state(name, "running")
            known = client.campaign(name)
            campaign = from_document(known["spec"])
            task = task_of(campaign.task)
            device = profile_of(client, campaign)
            target = target_of(device)
            space = Space.of(campaign, layers_of(task.model()), device.number_formats)
            told = sum(known["trials"].values())
            Search(client, campaign, campaign.devices[0], Sampling(campaign, space, told), {
                "opset": target.opset, "ir_version": target.ir_version,
                "number_formats": sorted(target.number_formats),
                "int8_activations": target.int8_activations},
                campaign.builders or cores()).run()
        except FINAL as error:
            # Paused or cancelled meanwhile, it stays so.
            with suppress(ProtocolError):
                client.set_state(name, "failed", reason=str(error))
            raise


def profile_of(client: CoordinatorClient, campaign: Campaign) -> DeviceProfile:
    """The profile of the campaign's device: named, or that under which the device is enrolled.
    Raises UserError."""
    device = campaign.devices[0]
    enrolled = {row["name"]: row["profile"] for row in client.devices()}
    try:
        return profile(enrolled.get(device) or "" if device in campaign.named else device)
    except ProfileError as error:
        raise UserError(f"Device {device!r}: {error}") from error


def main() -> None:
    """Exit 1 when nothing helps before the user mends something, 2 when another try may."""
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
        sys.exit(1 if isinstance(error, FINAL) else DEFECT)
    except Exception:  # noqa: BLE001  process boundary: Python's own code for it would be a user's
        traceback.print_exc()
        sys.exit(DEFECT)


if __name__ == "__main__":
    main()
