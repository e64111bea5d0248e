"""SamTune: prompted segmentation of rasters in QGIS with a Segment Anything model that can be tuned.

The repository root is the plugin package. QGIS calls :func:`classFactory`; nothing else is imported here, so that the
engine process, the command line and the tests can import the package where QGIS is absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qgis.gui import QgisInterface

    from .plugin.plugin import SamTunePlugin


def classFactory(iface: QgisInterface) -> SamTunePlugin:  # noqa: N802 - the name QGIS looks for
    """Make the plugin object for QGIS.

    Args:
        iface: the running QGIS's interface.

    Returns:
        The plugin, not yet shown: QGIS calls its ``initGui`` next.
    """
    from .plugin.plugin import SamTunePlugin

    return SamTunePlugin(iface)
