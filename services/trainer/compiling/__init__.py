"""Fitted estimators as ONNX graphs, each proved against the estimator before it is used."""

from services.trainer.compiling.proof import Result, compile_model

__all__ = ["Result", "compile_model"]
