"""An estimator to the bytes of a graph with one input per kind of column and one output."""

import warnings
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np
import onnx
import skl2onnx
from onnx import TensorProto, helper
from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType
from sklearn import ensemble, impute, linear_model, preprocessing, svm, tree
from sklearn.pipeline import Pipeline

from services.trainer.compiling import encoders, linear, scalers, trees
from services.trainer.compiling.nodes import CannotCompile
from shared.manifest import Column
from shared.onnx_models import ANSWERS, NUMBERS, TEXTS, Signature

OPSETS: Final = {"": 18, "ai.onnx.ml": 5}
"""Of finished models. 5 brought trees in double precision."""
IR_VERSION: Final = 9
_MADE_WITH: Final = {"": 18, "ai.onnx.ml": 3}
_REGISTERED: Final[list[bool]] = []
_CERTAIN: Final = (
    linear_model.RidgeClassifier,
    linear_model.RidgeClassifierCV,
    linear_model.Perceptron,
    svm.LinearSVC,
)

Convert = Callable[[Any, Any, Any], None]


def compiled(estimator: Any, columns: Sequence[Column], signature: Signature) -> bytes:
    """The graph; the same estimator gives the same bytes.

    Raises:
        CannotCompile: a part of the estimator has no graph.
    """
    register()
    runs = _runs(columns)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = skl2onnx.convert_sklearn(
                estimator,
                name="model",
                initial_types=[(name, _type(kind, width)) for name, kind, width in runs],
                target_opset=_MADE_WITH,
                options=_options(estimator),
            )
    except (CannotCompile, MemoryError):
        raise
    except Exception as error:
        raise CannotCompile(_line(error)) from error
    _take_inputs(model, runs, signature)
    _give_answers(model, estimator, signature)
    return _finished(model)


def _runs(columns: Sequence[Column]) -> list[tuple[str, bool, int]]:
    """Neighbouring columns of a kind: name of the input, whether it is text, number of columns."""
    found = [
        (kind, len(list(run))) for kind, run in groupby(columns, key=lambda c: c.kind == "text")
    ]
    single = {kind for kind, _ in found if sum(k == kind for k, _ in found) == 1}
    return [
        (((TEXTS if kind else NUMBERS) if kind in single else f"run{i}"), kind, width)
        for i, (kind, width) in enumerate(found)
    ]


def _type(text: bool, width: int) -> Any:
    return (StringTensorType if text else DoubleTensorType)([None, width])


def _options(estimator: Any) -> Any:
    last = estimator
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    is_own = type(last) in {kind for kind, *_ in _classifiers()}
    is_theirs = hasattr(last, "predict_proba") and not is_own
    return {id(last): {"zipmap": False}} if is_theirs else None


def _take_inputs(model: Any, runs: Sequence[tuple[str, bool, int]], signature: Signature) -> None:
    """One input per kind; runs are cut out of it."""
    graph = model.graph
    first = []
    for text, name in ((False, NUMBERS), (True, TEXTS)):
        parts = [(run, width) for run, is_text, width in runs if is_text == text]
        if len(parts) < 2:
            continue
        sizes = onnx.numpy_helper.from_array(np.array([w for _, w in parts]), f"{name}_widths")
        graph.initializer.append(sizes)
        outputs = [run for run, _ in parts]
        first.append(helper.make_node("Split", [name, sizes.name], outputs, axis=1, name=name))
    kept = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.input[:]
    for name, (kind, width) in signature.inputs().items():
        graph.input.append(helper.make_tensor_value_info(name, kind, [None, width]))


def _give_answers(model: Any, estimator: Any, signature: Signature) -> None:
    graph = model.graph
    said = graph.output[-1]
    if said.type.tensor_type.elem_type != TensorProto.DOUBLE:
        raise CannotCompile("its graph answers in single precision")
    if signature.answers > 1 and len(graph.output) != 2:
        raise CannotCompile("its graph gives no shares of the classes")
    if signature.answers > 1 and not (
        hasattr(estimator, "predict_proba") or _names_labels(estimator)
    ):
        raise CannotCompile("it names labels, and its graph gives scores")
    shape = onnx.numpy_helper.from_array(np.array([-1, signature.answers]), "answers_shape")
    graph.initializer.append(shape)
    graph.node.append(helper.make_node("Reshape", [said.name, shape.name], [ANSWERS], name=ANSWERS))
    del graph.output[:]
    answers = helper.make_tensor_value_info(ANSWERS, TensorProto.DOUBLE, [None, signature.answers])
    graph.output.append(answers)


def _names_labels(estimator: Any) -> bool:
    last = estimator
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    return isinstance(last, _CERTAIN)


def _finished(model: Any) -> bytes:
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*pair) for pair in OPSETS.items())
    model.ir_version = IR_VERSION
    model.doc_string = model.graph.doc_string = ""
    model.producer_name, model.producer_version, model.domain = "tidewheel", "", ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    data: bytes = model.SerializeToString(deterministic=True)
    return data


# --- our own converters -----------------------------------------------------------------------


def register() -> None:
    """Tell skl2onnx which parts are ours; once per process."""
    if _REGISTERED:
        return
    for kind, convert in _regressors():
        _register(kind, _one_number, convert, None)
    for kind, convert in _classifiers():
        _register(kind, _shares_shape, convert, _parser(kind, "label", "shares"))
    _register(
        ensemble.IsolationForest,
        _one_number_beside,
        trees.isolation_forest,
        _parser(ensemble.IsolationForest, "label", "decision"),
    )
    for kind, convert in _scalers():
        _register(kind, _same_width, convert, None)
    _register(impute.SimpleImputer, _imputed_shape, encoders.imputer, None)
    _register(preprocessing.OneHotEncoder, _one_hot_shape, encoders.one_hot, None)
    _register(preprocessing.OrdinalEncoder, _ordinal_shape, encoders.ordinal, None)
    _REGISTERED.append(True)


def _regressors() -> list[tuple[type, Convert]]:
    return [
        (tree.DecisionTreeRegressor, trees.forest_regressor),
        (tree.ExtraTreeRegressor, trees.forest_regressor),
        (ensemble.RandomForestRegressor, trees.forest_regressor),
        (ensemble.ExtraTreesRegressor, trees.forest_regressor),
        (ensemble.GradientBoostingRegressor, trees.boosting_regressor),
        (ensemble.HistGradientBoostingRegressor, trees.histogram_regressor),
    ]


def _classifiers() -> list[tuple[type, Convert]]:
    return [
        (tree.DecisionTreeClassifier, trees.forest_classifier),
        (tree.ExtraTreeClassifier, trees.forest_classifier),
        (ensemble.RandomForestClassifier, trees.forest_classifier),
        (ensemble.ExtraTreesClassifier, trees.forest_classifier),
        (ensemble.GradientBoostingClassifier, trees.boosting_classifier),
        (ensemble.HistGradientBoostingClassifier, trees.histogram_classifier),
        (linear_model.LogisticRegression, linear.logistic),
        (linear_model.LogisticRegressionCV, linear.logistic),
        *((kind, linear.certain) for kind in _CERTAIN),
    ]


def _scalers() -> list[tuple[type, Convert]]:
    return [
        (preprocessing.StandardScaler, scalers.standard),
        (preprocessing.RobustScaler, scalers.robust),
        (preprocessing.MaxAbsScaler, scalers.largest),
        (preprocessing.MinMaxScaler, scalers.ranged),
    ]


def _register(kind: type, shape: Any, convert: Convert, parser: Any) -> None:
    # What the library's own parts may ask of a classifier; to have options at all makes one of it.
    asked = None if parser is None else {name: [False, True] for name in ("zipmap", "nocl")}
    skl2onnx.update_registered_converter(
        kind, _alias(kind), shape, convert, parser=parser, options=asked
    )


def _alias(kind: type) -> str:
    return f"Tidewheel{kind.__name__}"


def _parser(kind: type, *names: str) -> Callable[..., Any]:
    """Two outputs, whatever the labels are: an index, and numbers."""

    def parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        del custom_parsers
        operator = scope.declare_local_operator(_alias(kind), model)
        operator.inputs = inputs
        for name, type_ in zip(names, (Int64TensorType(), DoubleTensorType()), strict=True):
            operator.outputs.append(scope.declare_local_variable(name, type_))
        return operator.outputs

    return parse


def _one_number(operator: Any) -> None:
    operator.outputs[0].type = DoubleTensorType([None, 1])


def _same_width(operator: Any) -> None:
    operator.outputs[0].type = DoubleTensorType([None, operator.raw_operator.n_features_in_])


def _one_number_beside(operator: Any) -> None:
    operator.outputs[0].type = Int64TensorType([None, 1])
    operator.outputs[1].type = DoubleTensorType([None, 1])


def _shares_shape(operator: Any) -> None:
    operator.outputs[0].type = Int64TensorType([None])
    operator.outputs[1].type = DoubleTensorType([None, len(operator.raw_operator.classes_)])


def _imputed_shape(operator: Any) -> None:
    model = operator.raw_operator
    width = len(encoders.kept_columns(model))
    width += len(model.indicator_.features_) if model.add_indicator else 0
    operator.outputs[0].type = _type(encoders.is_text(operator), width)


def _one_hot_shape(operator: Any) -> None:
    model = operator.raw_operator
    kept = (encoders.kept_categories(model, i) for i in range(len(model.categories_)))
    operator.outputs[0].type = DoubleTensorType([None, sum(map(len, kept))])


def _ordinal_shape(operator: Any) -> None:
    operator.outputs[0].type = DoubleTensorType([None, len(operator.raw_operator.categories_)])


def _line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]
