"""From a manifest, or a manifest and a recipe, to a task file with a reason for each choice."""

from anymc3d.callable import answer_calls
from anymc3d.plan.from_recipe import plan_recipe
from anymc3d.plan.task import Plan, plan_task

__all__ = ["Plan", "plan_recipe", "plan_task"]

answer_calls(__name__)
