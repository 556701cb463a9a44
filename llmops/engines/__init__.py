"""Engines: where the steps of a plan run. Only this floor knows Kubeflow Pipelines."""
