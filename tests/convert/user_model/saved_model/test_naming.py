from __future__ import annotations

from xxdeploy.convert.user_model.saved_model.naming import layer_names, valid_name


def test_the_scope_of_an_operation_is_its_layer() -> None:
    paths = [
        "net/conv1/Conv2D",
        "net/conv1/BiasAdd",
        "net/bn/batchnorm/mul",
        "net/relu/Relu",
        "net/fc/Tensordot/MatMul",
    ]
    assert layer_names(paths) == ["conv1", "conv1", "bn", "relu", "fc"]


def test_operations_without_a_scope_are_layers_of_their_own() -> None:
    assert layer_names(["Conv2D", "Relu", "Relu_1"]) == ["Conv2D", "Relu", "Relu_1"]


def test_nested_models_lose_their_names_where_the_last_part_is_unique() -> None:
    paths = ["net/a/conv/Conv2D", "net/b/conv/Conv2D", "net/b/relu/Relu"]
    assert layer_names(paths) == ["a_conv", "b_conv", "relu"]


def test_the_ending_of_a_second_call_is_dropped_if_all_layers_with_weights_have_it() -> None:
    paths = ["net_1/conv_1/Conv2D", "net_1/relu_2_1/Relu", "net_1/fc_1/MatMul"]
    assert layer_names(paths, with_weights={0: "conv/kernel", 2: "fc/kernel"}) == ["conv", "relu_2", "fc"]
    mixed = {0: "conv/kernel", 2: "fc_1/kernel"}
    assert layer_names(paths, with_weights=mixed) == ["conv_1", "relu_2_1", "fc_1"]


def test_known_layers_end_the_path() -> None:
    paths = ["net/attention/query/einsum/Einsum", "net/depthwise/depthwise", "net/odd/deep/scope/Mul"]
    assert layer_names(paths, known=["attention", "depthwise", "odd"]) == ["attention", "depthwise", "odd"]


def test_names_are_valid_scopes() -> None:
    assert valid_name("слой 1/conv") == "_1_conv".lstrip("_")
    assert valid_name("--") == "layer"
