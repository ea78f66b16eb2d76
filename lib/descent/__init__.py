"""The library behind Descent, an interactive textbook of the training dynamics of neural networks."""

from descent import cache, cluster, data, exercises, models, optimizers, plots, probes, schedules, theory
from descent.claims import claim
from descent.explore import explore
from descent.plots import comparison, prose
from descent.seeding import seeds
from descent.sweep import retrain, sweep
from descent.task import Task

__all__ = [
    "Task",
    "cache",
    "claim",
    "cluster",
    "comparison",
    "data",
    "exercises",
    "explore",
    "models",
    "optimizers",
    "plots",
    "probes",
    "prose",
    "retrain",
    "schedules",
    "seeds",
    "sweep",
    "theory",
]
