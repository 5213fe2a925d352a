"""Graph nodes put together one by one; what converters share."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

_TYPES: Final = {
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(bool): TensorProto.BOOL,
}
_OPSET: Final = 18
_ML_OPSET: Final = 3
"""What skl2onnx knows; the finished model says 5, which adds to it and takes nothing away."""


class CannotCompile(Exception):
    """There is no faithful graph of this estimator; scikit-learn itself answers."""


class Nodes:
    """Writes the nodes of one operator into skl2onnx's container."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope = scope
        self._container = container
        self.operator = operator

    def matrix(self) -> str:
        """All inputs of the operator side by side."""
        names = [variable.onnx_name for variable in self.operator.inputs]
        return names[0] if len(names) == 1 else self.add("Concat", *names, axis=1)

    def constant(self, values: Any) -> str:
        """A tensor with these values."""
        array = np.asarray(values)
        name: str = self._scope.get_unique_variable_name("c")
        if array.dtype.kind in "OU":
            plain = [str(value).encode() for value in array.ravel()]
            self._container.add_initializer(name, TensorProto.STRING, array.shape, plain)
        else:
            kind = _TYPES[array.dtype]
            self._container.add_initializer(name, kind, array.shape, array.ravel().tolist())
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node of the standard operators; the name of what it gives."""
        return self._add(kind, inputs, "", _OPSET, attributes)

    def add_ml(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node of the operators for classical models."""
        return self._add(kind, inputs, "ai.onnx.ml", _ML_OPSET, attributes)

    def _add(
        self, kind: str, inputs: tuple[str, ...], domain: str, version: int, attributes: Any
    ) -> str:
        output: str = self._scope.get_unique_variable_name("v")
        self._container.add_node(
            kind,
            list(inputs),
            [output],
            op_domain=domain,
            op_version=version,
            name=self._scope.get_unique_operator_name(kind),
            **attributes,
        )
        return output

    def give(self, *names: str) -> None:
        """These are the outputs of the operator."""
        for name, variable in zip(names, self.operator.outputs, strict=True):
            self._container.add_node(
                "Identity",
                [name],
                [variable.full_name],
                op_version=_OPSET,
                name=self._scope.get_unique_operator_name("Identity"),
            )

    # --- what several converters need

    def as_float32(self, matrix: str) -> str:
        """The values as scikit-learn's trees see them: rounded to single precision."""
        small = self.add("Cast", matrix, to=TensorProto.FLOAT)
        return self.add("Cast", small, to=TensorProto.DOUBLE)

    def penalty(self, matrix: str, *, takes_missing: bool) -> str:
        """Per row, shape (n, 1): 0, or what is not finite if the estimator would refuse the row.

        Added to its answer it makes that answer one that is not finite. A difference of a number
        with itself is 0, of what is no number or infinite it is none.
        """
        if takes_missing:
            kept = self.add("IsNaN", matrix)
            matrix = self.add("Where", kept, self.constant(np.zeros((1, 1))), matrix)
        zeros = self.add("Sub", matrix, matrix)
        return self.add("ReduceSum", zeros, self.constant(np.array([1])), keepdims=1)

    def two_sides(self, share: str) -> str:
        """Shares of both classes from that of the second, shape (n, 1)."""
        other = self.add("Sub", self.constant(np.ones((1, 1))), share)
        return self.add("Concat", other, share, axis=1)

    def labels(self, shares: str) -> str:
        """Index of the largest share of each row, shape (n,)."""
        return self.add("ArgMax", shares, axis=1, keepdims=0)


def tensor(name: str, values: NDArray[Any]) -> TensorProto:
    """An attribute that is a tensor."""
    kind = TensorProto.DOUBLE if values.dtype == np.float64 else TensorProto.UINT8
    return helper.make_tensor(name, kind, values.shape, values.tobytes(), raw=True)
