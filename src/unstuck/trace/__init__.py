"""What was measured, as numbers: sites × steps × roles. No tensors, no torch."""

from unstuck.trace.sites import Edge, Kind, Location, Role, Site
from unstuck.trace.stretch import Stretch
from unstuck.trace.trace import LossCall, Signal, Trace
from unstuck.trace.watching import Watching

__all__ = ["Edge", "Kind", "Location", "LossCall", "Role", "Signal", "Site", "Stretch", "Trace", "Watching"]
