"""Making the engine environment, as QGIS tasks: first a plan to show to the user, then, with consent, the work."""

from __future__ import annotations

from qgis.core import QgsFeedback

from .environment import EngineLocation
from .environment_builder import EnvironmentBuilder
from .environment_plan import EnvironmentOptions, EnvironmentPlan, make_plan
from .tasks import BaseTask


class PlanEnvironmentTask(BaseTask):
    """Look at this machine. The result is an :class:`~samtune.plugin.environment_plan.EnvironmentPlan`."""

    def __init__(self, where: EngineLocation, options: EnvironmentOptions) -> None:
        """Describe the task.

        Args:
            where: gives folders and requirements.
            options: what the user has decided.
        """
        super().__init__("SamTune: look at this machine")
        self._where = where
        self._options = options

    def _run(self, feedback: QgsFeedback) -> object:
        return make_plan(self._where, self._options, feedback.isCanceled)


class CreateEnvironmentTask(BaseTask):
    """Make an environment. The result is the path of its interpreter; ``message`` carries each line of output.

    Consent is the caller's business, and so is ending a running engine afterwards: its environment may be gone.
    """

    def __init__(self, plan: EnvironmentPlan) -> None:
        """Describe the task.

        Args:
            plan: what to do.
        """
        super().__init__("SamTune: make the engine environment")
        self._plan = plan

    def _run(self, feedback: QgsFeedback) -> object:
        return EnvironmentBuilder(self._plan, self.report, feedback.isCanceled).build()
