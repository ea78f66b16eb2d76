"""The library behind Descent, an interactive textbook of the training dynamics of neural networks."""

from descent import data, models, optimizers, probes, schedules
from descent.seeding import seeds
from descent.sweep import retrain, sweep
from descent.task import Task

__all__ = ["Task", "data", "models", "optimizers", "probes", "retrain", "schedules", "seeds", "sweep"]
